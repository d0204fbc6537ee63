"""The connections of the packet process: keys, handshakes, sequence numbers, verdicts.

`packet_path` judges each segment of each `connection`; `handshake`, `waiting` and `listeners` lead
to a new one, `keyring` and `sockets_table` say which key belongs to which socket, `owners` which
socket has a pair, `inherited` is the protection of pairs whose socket is gone.

Does no input or output. Knows nothing of netlink or firewall rules.
"""
