"""The gatekeeper's state machine, without input and output: events and `now` in, commands out.

`core` is its interface. `proving` judges a new connection, `rotation` replaces a key in use,
`ending` ends connections, `policy_change` applies a new configuration, `expiry_warnings` warns in
advance. `negotiated` has the keys that come from IKEv2, `keychains` the keys that an operator
gives.

Knows nothing of threads, sockets, files, or of which routing protocol is protected.
"""
