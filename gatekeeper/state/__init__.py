"""The gatekeeper's records: peers, connections, MKTs, KeyIDs, deadlines, and the view for `show`.

`store` holds all of them. Records and their own rules only; `gatekeeper.engine` decides what
follows from a change.

Knows nothing of sockets, threads, IKE messages or of which routing protocol is protected.
"""
