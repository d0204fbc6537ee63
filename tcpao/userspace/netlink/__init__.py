"""Netlink messages that no library has: netfilter queues, and the destruction of a socket.

Knows nothing of TCP-AO.
"""
