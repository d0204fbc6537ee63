"""TCP-AO (RFC 5925): MKTs, KDFs and MACs (RFC 5926), and the installing of keys.

Knows nothing of IKEv2 or BGP.
"""
