"""CPU for one segment: the bare MAC, and the packet core around it, without a kernel."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass

from tcpao import kdf
from tcpao.mkt import ALGORITHMS
from tcpao.userspace.signing import mac_function, supported
from tests.tcpao.userspace.packets import ACK, DATA_OPTIONS, connected, packet, talk

# What a full-size segment carries on Ethernet, with timestamps and a TCP-AO option.
PAYLOAD = 1428
ROUNDS = 5
CALLS = 4000


@dataclass(frozen=True)
class SegmentCost:
    """Microseconds for each full-size segment."""

    algorithm: str
    version: int
    mac: float
    """The MAC alone, its key schedule done: nobody can be cheaper."""
    out: float
    """Signed by the core."""
    into: float
    """Verified and stripped by the core."""


def measure(algorithm: str, version: int) -> SegmentCost:
    """One suite over one family."""
    client, server = connected(version, algorithm=algorithm)
    talk(client, server)
    made = packet(
        client.pair,
        client.isn + client.sent,
        server.isn + server.sent,
        ACK,
        DATA_OPTIONS,
        bytes(PAYLOAD),
    )
    signed = client.core.outgoing(made)
    assert signed is not None
    assert server.core.incoming(signed) is not None
    pair = client.pair
    context = kdf.context(pair.local, pair.remote, pair.local_port, pair.remote_port, 1, 2)
    key = next(client.core.connections()).keyring.keys[0]
    mac = mac_function(ALGORITHMS[algorithm], key.master_key, context, 0, b'')
    covered = bytes(len(signed) - (20 if version == 4 else 40) + 12)
    return SegmentCost(
        algorithm,
        version,
        mac=_microseconds(lambda: mac(covered)),
        out=_microseconds(lambda: client.core.outgoing(made)),
        into=_microseconds(lambda: server.core.incoming(signed)),
    )


def measure_all() -> list[SegmentCost]:
    """Every suite that works here, over IPv4 and IPv6."""
    return [
        measure(name, version) for name in ALGORITHMS if name in supported() for version in (4, 6)
    ]


def _microseconds(work: Callable[[], object]) -> float:
    """CPU time of one call: the best round, for what others do to a cache isn't ours."""
    best = float('inf')
    gc.disable()
    try:
        for _ in range(ROUNDS):
            began = time.process_time()
            for _ in range(CALLS):
                work()
            best = min(best, time.process_time() - began)
    finally:
        gc.enable()
    return best / CALLS * 1e6
