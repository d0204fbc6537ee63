"""Keys that an operator gives: their way onto listeners and connections, and their change-over.

`connection_keys` has the keys of one connection, `sessions` those of a session and its listener.
`gatekeeper.policy.keychain` says when a key holds.

Knows nothing of IKEv2.
"""
