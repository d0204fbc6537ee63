"""Keys that an operator gives: their installation on listeners and connections, and their
change-over.

`connection_keys` has the keys of one connection, `sessions` those of a session and its listener.
`recognition` finds the session of an accepted socket, `failed_keys` counts failures, `mkts` makes
MKTs of an operator's keys.
`gatekeeper.policy.keychain` decides when a key is valid.

Knows nothing of IKEv2.
"""
