"""TCP-AO by the Linux kernel (6.7 or later, CONFIG_TCP_AO): socket options and their errors.

`installer` sets keys on sockets, `abi` has numbers and structures, `errors` the meaning of an
errno. Sources: `include/uapi/linux/tcp.h`, `net/ipv4/tcp_ao.c`.

Knows nothing of IKEv2, of lifetimes or of the packet process.
"""
