"""Keys that IKEv2 negotiates: opening, accepting, rekeying, deletion and reauthentication.

`connection_keys` has the keys of one connection.
`ike_events` receives the events of the IKE endpoint and calls the handlers; `operator` and
`revocation` end keys on request. `gatekeeper.engine.rotation` brings a successor into use, in the
same way for every key.

Knows nothing of keychains.
"""
