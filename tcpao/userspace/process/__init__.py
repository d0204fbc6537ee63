"""The packet process: its loop, its start and its privileges.

The only place where packets, rules and the daemon's commands meet.

Knows nothing of IKEv2, BGP or lifetimes.
"""
