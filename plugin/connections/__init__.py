"""ExaBGP's connections: the gate before connect(), accepted sockets, the BGP session of each.

`runtime` is the adapter as a whole: it drains the gatekeeper's commands in the reactor's thread.

Knows nothing of IKE messages or of the layout of socket options.
"""
