"""The daemon's side of user-space TCP-AO: the backend that talks to the packet process.

`backend` starts and ends the process (`child`), and `channel` is the connection to the process.
`installer` and `key_socket` set keys on sockets; `background_installer` does so without waiting.

Knows nothing of packets or firewall rules.
"""
