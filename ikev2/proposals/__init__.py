"""What is offered, and which offer is chosen: `ike` for IKE SAs, `rp` for RP SAs; IKE policies by
name in `policies`."""
