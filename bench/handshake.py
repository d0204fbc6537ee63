"""CPU of a full handshake over the primitives that it can't avoid, and memory of idle IKE SAs.

IKE_SA_INIT, IKE_AUTH and one CREATE_CHILD_SA, both ends in this process, without sockets, while 1,
100 and 5,000 other IKE SAs are up and idle: the cost of an IKE SA does not depend on the number of
others unless some code loops over all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from bench.population import HUB_ID, Population, Proofs
from bench.primitives import Primitive, primitives
from ikev2.authentication.auth import PresharedKey, PrivateKey
from ikev2.authentication.identity import Identity
from ikev2.constants import KeyExchangeId
from ikev2.proposals.ike import IkePolicy
from keymaterial import Secret

POPULATIONS: Final = (1, 100, 5000)
# The first spoke that is measured: lower numbers are the idle ones.
_MEASURED: Final = 100_000
_MESSAGES: Final = 6


@dataclass(frozen=True)
class Kind:
    """A kind of handshake."""

    name: str
    group: str
    signed: bool

    def population(self) -> Population:
        """Return two endpoints of this kind, without peers."""
        curve = self.group == 'x25519'
        group = KeyExchangeId.CURVE25519 if curve else KeyExchangeId.ECP_256
        return Population(_signing() if self.signed else _sharing(), IkePolicy(groups=(group,)))

    def primitives(self) -> list[Primitive]:
        """Return the unavoidable primitives, with the sizes of a handshake that is done for it."""
        population = self.population()
        population.wire = []
        population.add(0)
        population.handshake(0)
        lengths = [len(datagram.data) for datagram in population.wire]
        assert len(lengths) == _MESSAGES, lengths
        identities = [len(HUB_ID.data), len(Identity.parse('fqdn', 's0.example').data)]
        return primitives(lengths, identities, group=self.group, signed=self.signed)


KINDS: Final = (
    Kind('X25519, PSK', 'x25519', signed=False),
    Kind('X25519, ECDSA P-256', 'x25519', signed=True),
    Kind('P-256, ECDSA P-256', 'p256', signed=True),
)


def _sharing() -> Proofs:
    key = PresharedKey(Secret(os.urandom(32)))
    return Proofs(key, key, key, key)


def _signing() -> Proofs:
    """Return proofs by raw public keys that both ends know."""
    ours, theirs = (PrivateKey(ec.generate_private_key(ec.SECP256R1())) for _ in range(2))
    return Proofs(ours, ours.public_key, theirs, theirs.public_key)


@dataclass(frozen=True)
class Cost:
    """The cost of one kind of handshake with so many idle IKE SAs, in microseconds of CPU."""

    kind: str
    idle: int
    handshake: float
    """The handshake at both ends."""
    floor: dict[str, tuple[int, float]]
    """By name of a primitive: its count, and the cost of one."""

    @property
    def primitives(self) -> float:
        """Return the sum of all primitives."""
        return sum(count * each for count, each in self.floor.values())

    @property
    def ratio(self) -> float:
        """Return the cost of a handshake over that of its primitives."""
        return self.handshake / self.primitives


def measure(kind: Kind, idle: int, *, rounds: int, calls: int) -> Cost:
    """Measure primitives and handshakes by turns; the round with the least disturbance counts."""
    population = kind.population()
    for spoke in range(idle):
        population.add(spoke)
        population.handshake(spoke)
    floor = kind.primitives()
    whole = float('inf')
    alone = [float('inf')] * len(floor)
    for _ in range(rounds):
        alone = [
            min(best, _cpu(primitive.work, calls))
            for best, primitive in zip(alone, floor, strict=True)
        ]
        whole = min(whole, _handshakes(population, calls))
    named = {
        primitive.name: (primitive.count, seconds * 1e6)
        for primitive, seconds in zip(floor, alone, strict=True)
    }
    return Cost(kind.name, idle, whole * 1e6, named)


def _handshakes(population: Population, calls: int) -> float:
    """Return CPU seconds of a handshake, the average of a round, garbage collection included."""
    taken = 0.0
    for spoke in range(_MEASURED, _MEASURED + calls):
        population.add(spoke)
        began = time.process_time()
        population.handshake(spoke)
        taken += time.process_time() - began
        assert len(population.keys[spoke]) == 2
        population.remove(spoke)
        # So that the rate limits of an endpoint for one peer don't count.
        population.wait(1.0)
    return taken / calls


def _cpu(work: Callable[[], object], calls: int) -> float:
    began = time.process_time()
    for _ in range(calls):
        work()
    return (time.process_time() - began) / calls


@dataclass(frozen=True)
class Memory:
    """Octets at each end for one peer with an idle IKE SA and a routing-protocol SA."""

    idle: int
    configured: float
    """Octets of the peer's configuration, before there is an IKE SA."""
    up: float
    """Octets with the IKE SA and the routing-protocol SA's keys; `configured` included."""


def memory(kind: Kind, idle: int) -> Memory:
    """Measure in a separate process in which every allocation goes to malloc, which counts."""
    done = subprocess.run(
        [sys.executable, '-m', 'bench.idle', kind.name, str(idle)],
        env=os.environ | {'PYTHONMALLOC': 'malloc'},
        check=True,
        stdout=subprocess.PIPE,
    )
    return Memory(idle, **json.loads(done.stdout))


# --- the command line ---------------------------------------------------------------------------


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument(
        '--idle', type=int, nargs='+', default=POPULATIONS, help='IKE SAs that are up meanwhile'
    )
    parser.add_argument('--rounds', type=int, default=100, help='the best one counts')
    parser.add_argument('--calls', type=int, default=5, help='handshakes in a round')


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure and print."""
    costs = [
        measure(kind, idle, rounds=arguments.rounds, calls=arguments.calls)
        for kind in KINDS
        for idle in arguments.idle
    ]
    for kind in KINDS:
        _print_floor(next(cost for cost in costs if cost.kind == kind.name))
    print('CPU of a handshake, both ends, in microseconds')
    print(f'{"kind":22} {"idle":>6} {"primitives":>11} {"handshake":>10} {"ratio":>6}')
    for cost in costs:
        print(
            f'{cost.kind:22} {cost.idle:6} {cost.primitives:11.0f} {cost.handshake:10.0f} '
            f'{cost.ratio:6.1f}'
        )
    kept = [memory(KINDS[0], idle) for idle in arguments.idle]
    print('\nMemory at each end for one peer, in octets, as malloc counts it')
    print(f'{"idle":>6} {"configured":>11} {"with an IKE SA and an RP SA":>28}')
    for one in kept:
        print(f'{one.idle:6} {one.configured:11.0f} {one.up:28.0f}')
    return {
        'handshakes': [vars(cost) | {'ratio': cost.ratio} for cost in costs],
        'memory': [vars(one) for one in kept],
    }


def _print_floor(cost: Cost) -> None:
    print(f'{cost.kind}: the primitives of a handshake, in microseconds')
    for name, (count, each) in cost.floor.items():
        print(f'{count:4} x {each:6.2f}  {name}')
    print(f'{"":4} = {cost.primitives:6.1f}\n')
