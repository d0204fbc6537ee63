"""Parts that the adapter of any routing protocol needs: protected sockets, waking, closing.

`driver` is a turn of the daemon's loop, `sockets` keeps the protected sockets of a daemon, `wakeup`
wakes the thread that owns them, and `closing` holds sockets that are about to close. An adapter
runs in the routing protocol's own thread. `pinned_ports` holds fixed source ports, `metrics_server`
serves Prometheus.

Knows nothing of BGP, of any routing daemon, of IKEv2 or of how a key is negotiated.
"""
