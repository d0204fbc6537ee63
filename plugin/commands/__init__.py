"""ExaBGP's command line and API: `show ikev2`, and route commands for sessions of one neighbor.

Knows nothing of how a key is made; it asks the gatekeeper for a snapshot.
"""
