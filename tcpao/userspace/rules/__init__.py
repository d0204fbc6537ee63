"""Firewall rules that bring the packets of protected pairs to the queue: nftables and iptables.

`interface` is common to both makers, `nftables` and `iptables` (with their `_match`) are the
makers, `choice` selects one, `chain_layout` says which rules stand in which chain, the watches
notice changes by other programs, `leftovers` removes the rules of a killed process.

Knows nothing of keys or of the content of packets.
"""
