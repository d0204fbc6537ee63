"""The exchanges: what each end says, and what it makes of what it is told.

- `ike_init` with `ike_init_initiator` and `ike_init_responder`, `ike_intermediate`, `ike_auth`
- CREATE_CHILD_SA: `create_child` tells apart `ike_rekey` and RP SAs (`rp_initiator`,
  `rp_responder`); `follow_up` for their additional key exchanges
- INFORMATIONAL: `informational`; `reauth`: an IKE SA made anew before the old one is broken
- `unprotected`: what is said without an IKE SA; `nat`: NAT detection
"""
