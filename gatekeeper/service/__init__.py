"""The gatekeeper as a thread: its interface for adapters, UDP sockets, listening sockets,
deadlines.

`gatekeeper` is the interface, `loop` the thread's work, `mailbox` carries calls to the thread and
`command_queue` commands from it; `ike_sockets` are the UDP sockets, `listeners` the guarded
listening sockets, `protected_services` the part of the second net.

Knows nothing of which routing protocol it serves, and decides nothing: the engine decides.
"""
