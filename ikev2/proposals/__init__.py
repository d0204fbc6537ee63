"""Offers and choices: `ike` for IKE SAs, `rp` for RP SAs; IKE policies by name in `policies`.

Knows nothing of exchanges, of states or of who the peer is.
"""
