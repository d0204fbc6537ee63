"""Messages as octets: RFC 7296, 3, and what later RFCs added to it. Nothing is opened or judged.

`message` is a header and a chain of `payload`s; the payloads themselves are in `payloads`,
`payloads_sa` (SA) and `payloads_ts` (TSi, TSr). `reader` bounds every read; `words` says a
message to an operator.
"""
