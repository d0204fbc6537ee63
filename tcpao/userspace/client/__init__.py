"""The daemon's side of user-space TCP-AO: the backend that speaks to the packet process.

`backend` starts and ends the process, `installer` and `key_socket` set keys on sockets through it,
`channel` is the connection to it.

Knows nothing of packets or firewall rules.
"""
