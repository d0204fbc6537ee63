"""Parts that the adapter of any routing protocol needs: protected sockets, waking, closing.

`sockets` keeps the protected sockets of a daemon, `wakeup` wakes the thread that owns them, and
`closing` holds what is about to close. An adapter runs in the routing protocol's own thread.

Knows nothing of BGP, ExaBGP, IKEv2 or of how a key is negotiated.
"""
