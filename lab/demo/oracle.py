"""An independent verification of a capture: scapy computes the MAC of each segment again.

scapy is GPL, so only the lab uses it. Initial sequence numbers and SNEs are those of our own
verification; keys, KDF, MAC and the octets that they cover are scapy's own work.
"""

from __future__ import annotations

from collections.abc import Iterable

import scapy.contrib.tcpao as scapy_tcpao
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from tcpao.verification.verify import Verdict


def agreed(verdicts: Iterable[Verdict]) -> int:
    """Return the number of segments with the MAC that scapy computes for them."""
    return sum(_agrees(verdict) for verdict in verdicts)


def _agrees(verdict: Verdict) -> bool:
    key, option = verdict.key, verdict.option
    if key is None or option is None:
        return False
    parsed = IPv6(verdict.octets) if verdict.octets[0] >> 4 == 6 else IP(verdict.octets)
    algorithm = scapy_tcpao.get_alg(key.algorithm.name)
    traffic_key = scapy_tcpao.calc_tcpao_traffic_key(
        parsed,
        algorithm,
        key.master_key.reveal(),
        verdict.source_isn,
        verdict.destination_isn,
    )
    mac = scapy_tcpao.calc_tcpao_mac(
        parsed, algorithm, traffic_key, include_options=verdict.tcp_options, sne=verdict.sne
    )
    return bool(mac == option.mac)
