"""ExaBGP's command line and API: `show ikev2`, and route commands for sessions of one neighbor.

`answers` are answers to an operator, `operate` has rekey, revoke, drain and their opposites.

Knows nothing of how a key is made; asks the gatekeeper for a snapshot.
"""
