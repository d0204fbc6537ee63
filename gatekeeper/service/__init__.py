"""The gatekeeper as a thread: its face for adapters, UDP sockets, listening sockets, deadlines.

`gatekeeper` is the face, `loop` what the thread does, `mailbox` carries calls to the thread and
`command_queue` commands from it; `ike_sockets` are the UDP sockets, `listeners` the guarded
listening sockets.

Knows nothing of which routing protocol it serves, and decides nothing: decisions are the engine's.
"""
