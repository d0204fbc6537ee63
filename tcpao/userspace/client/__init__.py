"""The daemon's side of user-space TCP-AO: the backend that talks to the packet process.

`backend` starts and ends the process (`child`), `installer` and `key_socket` set keys on sockets
through it, `background_installer` does so without waiting, `channel` is the connection to it.

Knows nothing of packets or firewall rules.
"""
