"""Cryptography by the numbers of the registries: the primitives are the library's.

`prf` and `keys` (RFC 7296, 2.13 to 2.18), `cipher` (the SK payload's), `key_exchange` with `modp`
and `mlkem`, `entropy` (a floor for pre-shared keys).
"""
