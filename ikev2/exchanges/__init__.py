"""The exchanges: the messages of each side, and how each side handles them.

- `ike_init` with `ike_init_initiator` and `ike_init_responder`, `ike_intermediate`, `ike_auth`
- CREATE_CHILD_SA: `create_child` tells apart `ike_rekey` and RP SAs (`rp_initiator`,
  `rp_responder`); `follow_up` for their additional key exchanges
- INFORMATIONAL: `informational`; `reauth`: a new IKE SA before the old one is deleted
- `unprotected`: messages without an IKE SA; `nat`: NAT detection

Knows nothing of sockets and clocks, nor of the use of the keys.
"""
