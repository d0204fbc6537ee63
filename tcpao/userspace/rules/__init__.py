"""Firewall rules that bring the packets of protected pairs to the queue: nftables and iptables.

`interface` is what both makers offer, `nftables` and `iptables` are the makers, `chain_layout` says
which rules stand where, the watches see what somebody else does to them, `leftovers` removes what
a killed process left.

Knows nothing of keys or of what a packet holds.
"""
