"""The connections of the packet process: keys, handshakes, sequence numbers, verdicts.

`packet_path` judges each segment of each `connection`; `handshake`, `waiting` and `listeners` lead
to a new connection. `keyring` and `sockets_table` tell which key belongs to which socket, `owners`
tells which socket has a pair, and `inherited` protects pairs whose socket is gone.

Does no input or output. Knows nothing of netlink or firewall rules.
"""
