"""Messages as octets: RFC 7296, 3, and what later RFCs added. Nothing is decrypted or judged.

`message` is a header and a chain of `payload`s; the payloads themselves are in `payloads`,
`payloads_sa` (SA) and `payloads_ts` (TSi, TSr). `reader` bounds every read; `words` describes a
message to an operator.
"""
