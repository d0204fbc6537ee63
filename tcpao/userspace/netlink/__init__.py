"""Netlink messages that no library has: netfilter queues, owners and the destruction of sockets.

Knows nothing of TCP-AO.
"""
