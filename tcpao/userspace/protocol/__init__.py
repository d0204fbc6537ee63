"""Messages between the daemon and its packet process, and their encoding.

Knows nothing of sockets: the channel is `tcpao.userspace.client.channel`.
"""
