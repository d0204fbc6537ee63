"""The gatekeeper: TCP-AO keys from IKEv2 or from an operator, for any routing protocol over TCP.

- `service` is the thread: UDP, listening sockets, deadlines; a routing protocol calls it.
- `engine` is the state machine without I/O: events and `now` in, commands out. `state` holds its
  records, `policy` the operator's wishes.
- `adapter` and `configuration` are common to the adapters of all routing protocols.
- `reporting` is for operators; `tools` is the command `gatekeeper`.

Knows nothing of BGP, of any routing daemon, or of packet formats.
"""
