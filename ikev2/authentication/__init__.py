"""Identities and proofs of peers: RFC 7296, 2.15; RFC 7427, 7670, 8784, 9593.

- `identity`, `names`: what is claimed, and how names are compared
- `auth`: AUTH, CERT and CERTREQ payloads; `announcements`: the methods that each side accepts
- `ppk`: an additional key (RFC 8784)
- `signatures`: raw keys that sign; `x509`: certificates, paths, CRLs
- `credentials`: our certificate and the CAs that we trust; `proof`: a verified proof, to be judged
  again

Knows nothing of exchanges and states. The PAD decides who may claim which identity: `ikev2.peer`.
"""
