"""Signature keys and schemes of IKE_AUTH (RFC 7296 2.15, RFC 7427, RFC 8420).

`keys` are private and public keys, `schemes` the algorithm identifiers and the keys for each.

Knows nothing of certificates, messages or the identities that peers must prove.
"""
