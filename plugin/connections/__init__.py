"""ExaBGP's connections: the gate before connect(), accepted sockets, the BGP session of each.

`runtime` is the adapter as a whole: it executes the gatekeeper's commands in the reactor's thread.
`peers` are ExaBGP's peers during a reload, `waits` limits the reactor's waits, `hop_limits` is
GTSM.

Knows nothing of IKE messages or of the layout of socket options.
"""
