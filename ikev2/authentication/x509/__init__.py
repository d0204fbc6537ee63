"""X.509 for IKE_AUTH: certificates, certification paths, name constraints and CRLs (RFC 5280).

Knows nothing of IKE messages; time is an argument.
"""
