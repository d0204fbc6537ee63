"""The gatekeeper's state machine, without input and output: events and `now` in, commands out.

`core` is its face. `proving` judges a new connection, `rotation` replaces a key in use, `ending`
ends connections, `policy_change` meets a new configuration, `expiry_warnings` tells in advance.
`negotiated` has the keys that come from IKEv2, `keychains` the keys that an operator gives.

Knows nothing of threads, sockets, files, or of which routing protocol is protected.
"""
