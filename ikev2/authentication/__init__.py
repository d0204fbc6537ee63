"""Who a peer is, and how it proves that: RFC 7296, 2.15; RFC 7427, 7670, 8784, 9593.

- `identity`: what is claimed
- `auth`, `auth_methods`: AUTH, CERT and CERTREQ payloads; `ppk`: a key mixed in besides
- `signatures`, by the tables of `schemes`: raw keys that sign
- `credentials`: X.509, by `certificates`, `paths`, `crl`, `signed`, `names`, `name_constraints`;
  `proof`: what verified, to be judged again

Who may claim what is the PAD's business: `ikev2.peer`.
"""
