"""CPU for one segment: the MAC alone, and the packet core around it, without a kernel."""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from tcpao import kdf
from tcpao.mkt import ALGORITHMS
from tcpao.userspace.wire.signing import mac_function, supported
from tests.tcpao.userspace.packets import ACK, DATA_OPTIONS, connected, packet, talk

# Octets in a full-size segment on Ethernet, with timestamps and a TCP-AO option.
PAYLOAD = 1428


@dataclass(frozen=True)
class SegmentCost:
    """The cost of each full-size segment, in microseconds."""

    algorithm: str
    version: int
    mac: float
    """The MAC alone, its key schedule done: the minimum."""
    out: float
    """Signing in the core."""
    into: float
    """Verifying and stripping in the core."""


def measure(algorithm: str, version: int, *, rounds: int, calls: int) -> SegmentCost:
    """Measure one suite over one IP version."""
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
        mac=_microseconds(lambda: mac(covered), rounds, calls),
        out=_microseconds(lambda: client.core.outgoing(made), rounds, calls),
        into=_microseconds(lambda: server.core.incoming(signed), rounds, calls),
    )


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument('--rounds', type=int, default=5, help='the best one counts')
    parser.add_argument('--calls', type=int, default=4000, help='segments in a round')


def run(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure every suite that works here, over IPv4 and IPv6, and print."""
    costs = [
        measure(name, version, rounds=arguments.rounds, calls=arguments.calls)
        for name in ALGORITHMS
        if name in supported()
        for version in (4, 6)
    ]
    print(
        'CPU of a full-size segment in the packet core, in microseconds; the MAC alone is the floor'
    )
    print(f'{"suite":22} {"IP":>3} {"MAC":>7} {"out":>7} {"in":>7} {"out/MAC":>8} {"in/MAC":>8}')
    for cost in costs:
        print(
            f'{cost.algorithm:22} {cost.version:3} {cost.mac:7.1f} {cost.out:7.1f} '
            f'{cost.into:7.1f} {cost.out / cost.mac:8.1f} {cost.into / cost.mac:8.1f}'
        )
    return [asdict(cost) for cost in costs]


def _microseconds(work: Callable[[], object], rounds: int, calls: int) -> float:
    """Return CPU time of one call: the best round, since other processes disturb the caches."""
    best = float('inf')
    gc.disable()
    try:
        for _ in range(rounds):
            began = time.process_time()
            for _ in range(calls):
                work()
            best = min(best, time.process_time() - began)
    finally:
        gc.enable()
    return best / calls * 1e6
