"""Firewall rules that bring the packets of protected pairs to the queue: nftables and iptables.

`nftables` and `iptables` (with their `_match`) make rules, by the common `interface`; `choice`
selects one of the two. `chain_layout` tells which rules stand in which chain, and the watches
notice changes by other programs. `leftovers` removes the rules of a killed process.

Knows nothing of keys or of the content of packets.
"""
