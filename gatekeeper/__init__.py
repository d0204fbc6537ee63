"""The gatekeeper: TCP-AO keys from IKEv2 or from an operator, for any routing protocol over TCP.

- `core` is its state machine without I/O: events and `now` in, commands out, with
  `ike_events` for what IKE tells. `state` is what it knows: `peer`s and `connection`s; `life` is
  the life of an MKT as a table, `policy` what an operator wants.
- A key's way: `opening` (active side) or `accepting` (passive side), `proving`, then `rotation`
  with `rekeying`, `deleting` and `ending`. `manual`, `chains` and `keychain` are the same without
  IKE. `reloading` and `reproving` meet a change of configuration.
- `service` is the thread around the core: UDP, listening sockets, deadlines. A routing protocol
  talks to it through `ticket`s and commands.
- `show`, `reasons` and `records` are what operators see; `cli` is the `gatekeeper` command, with
  `probing`, `verifying` and `keygen` behind it.

Knows nothing of BGP, ExaBGP or packet formats.
"""
