"""What the gatekeeper knows: peers, connections, MKTs, KeyIDs, deadlines, and the view for `show`.

`store` holds all of it. Records and their own rules only; what follows from a change is decided in
`gatekeeper.engine`.

Knows nothing of sockets, threads, IKE messages or of which routing protocol is protected.
"""
