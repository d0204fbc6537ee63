"""Packets as octets: IP, TCP and its options, ICMP quotes, MACs and checksums in place.

Knows nothing of connections: keys and sequence numbers are arguments.
"""
