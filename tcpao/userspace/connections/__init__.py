"""The connections of the packet process: keys, handshakes, sequence numbers, verdicts.

`packet_path` judges each segment of each `connection`; `handshake` and `listeners` are the way to
a new one, `keyring` and `sockets_table` say which key belongs to which socket, `inherited` is the
protection of pairs whose socket has gone.

Does no input or output. Knows nothing of netlink or firewall rules.
"""
