"""Parts that the adapter of any routing protocol needs: protected sockets, waking, closing.

`driver` is a turn of the daemon's loop, and `wakeup` wakes the thread of that loop. `sockets` keeps
the protected sockets of a daemon, and `closing` those that are about to close. `pinned_ports` holds
fixed source ports, `metrics_server` serves Prometheus. An adapter runs in the routing protocol's
own thread.

Knows nothing of BGP, of any routing daemon, of IKEv2 or of how a key is negotiated.
"""
