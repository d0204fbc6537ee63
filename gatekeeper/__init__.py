"""The gatekeeper: TCP-AO keys from IKEv2 or from an operator, for any routing protocol over TCP.

- `service` is the thread: UDP, listening sockets, deadlines; a routing protocol talks to it.
- `engine` is the state machine without I/O: events and `now` in, commands out. `state` is what it
  knows, `policy` what an operator wants.
- `adapter` and `configuration` are what the adapter of every routing protocol needs.
- `reporting` is what operators see; `tools` is the command `gatekeeper`.

Knows nothing of BGP, of any routing daemon, or of packet formats.
"""
