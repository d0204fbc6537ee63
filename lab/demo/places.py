"""Names and addresses of configs/two-routers, and the files of the demo."""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
CONFIGURATION = PROJECT / 'configs' / 'two-routers'
EVIDENCE = PROJECT / 'build' / 'demo'

WIRE = 'wire.pcap'
REFUSED = 'refused.pcap'
KEYS = 'keys.json'
TIMELINE = 'timeline.jsonl'
SAID = 'stage.log'

ROUTERS = ('r1', 'r2')
R1 = '10.0.0.1'
R2 = '10.0.0.2'
IMPOSTOR = '10.0.9.3'
BGP = 179

ALGORITHMS = {'ipv4 unicast': 'hmac-sha-1-96', 'ipv6 unicast': 'aes-128-cmac-96'}
PORTS = {'ipv4 unicast': 40001, 'ipv6 unicast': 40002}
"""r1's source ports."""
PREFIXES = {'ipv4 unicast': '192.0.2.0/24', 'ipv6 unicast': '2001:db8:1::/48'}
"""Prefixes that r1 announces and r2 must have."""
CHANGING = ('203.0.113.0/24 next-hop 10.0.0.1', '2001:db8:3::/48 next-hop fd00::1')
"""Routes that r1 announces and withdraws while keys are replaced, one in each session."""
IMPOSTOR_PORTS = range(41001, 41004)
"""Source ports of SYNs that claim to come from r1."""
UNABLE = 3
"""The stage's exit status where packets can't be protected in user space."""
