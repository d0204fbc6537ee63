"""The double against the kernel: random commands, the same answers.

The gatekeeper's life-cycle is simulated on the double, so what the double says must be what a
kernel would have said. Both get the same walk of commands, connections and data; every answer
and every connection's keys, Current and RNext are compared after each step.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

import pytest

from tcpao.installer import (
    Abort,
    Command,
    Done,
    Failed,
    Guard,
    Install,
    KeyState,
    Prune,
    Read,
    Remove,
    SetRNext,
    Unguard,
    Where,
)
from tcpao.mkt import Mkt
from tests.tcpao.benches import Bench, Connection, KernelBench, Listener, MemoryBench
from tests.tcpao.test_installer_conformance import PORT, answer, mkts, pair_of

STEPS = 60
PORTS = (40001, 40002)
DENY = (0, 0)
IDS = ((1, 1), (2, 2), (3, 3), DENY, (1, 4))


@dataclass
class World:
    """One bench and the connections on it, by the client's port."""

    bench: Bench
    listener: Listener
    near: dict[int, Connection] = field(default_factory=dict)
    far: dict[int, Connection] = field(default_factory=dict)
    guarded: bool = False
    """Once guarded, a listener's connections may have the deny key, whose KeyIDs are those of a
    key that others share."""

    @classmethod
    def on(cls, bench: Bench) -> World:
        listener = bench.listen(bench.b, PORT)
        bench.server.add_listener(listener.handle)
        return cls(bench, listener)

    def mkt(self, port: int, number: int) -> tuple[Mkt, Mkt]:
        return mkts(pair_of(self.bench, port), IDS[number], b'secret %d' % number)

    def ask(self, side: str, command: Command) -> object:
        self.guarded |= isinstance(command, Guard)
        return _plain(answer(getattr(self.bench, side), command))

    def bind(self, port: int) -> None:
        if port not in self.near:
            pair = pair_of(self.bench, port)
            self.near[port] = self.bench.bind(pair)
            self.bench.client.add_connection(pair, self.near[port].handle)

    def connect(self, port: int) -> object:
        """Fresh ones only; one that is refused is closed."""
        if port not in self.near or port in self.far:
            return None
        if self.near[port].connect():
            child = self.listener.accept()
            self.far[port] = child
            self.bench.server.add_connection(pair_of(self.bench, port).reversed(), child.handle)
            return True
        self.forget(port)
        return False

    def open(self, port: int, number: int) -> object:
        """Open a connection as a session does: the key on both ends, then connect."""
        if port in self.near:
            return None
        self.bind(port)
        client, server = self.mkt(port, number)
        return (
            self.ask('server', Install(server, Where.LISTENER)),
            self.ask('client', Install(client, Where.CONNECTION)),
            self.connect(port),
        )

    def rotate(self, port: int, number: int) -> object:
        """Install on both ends, move RNext on both, and talk."""
        client, server = self.mkt(port, number)
        return (
            self.ask('server', Install(server, Where.CONNECTION)),
            self.ask('client', Install(client, Where.CONNECTION)),
            self.ask('client', SetRNext(client)),
            self.talk(port),
            self.ask('server', SetRNext(server)),
            self.talk(port),
            self.talk(port),
        )

    def talk(self, port: int) -> object:
        """Both ends say something, if each will take what the other signs."""
        if port not in self.far or not self.agrees(port):
            return None
        for one, other in ((self.near, self.far), (self.far, self.near)):
            one[port].send(b'octets')
            assert other[port].receive(6) == b'octets'
        return self.states(port)

    def agrees(self, port: int) -> bool:
        """Both ends take what the other signs, now and once Current has moved.

        Where they don't, when TCP sends what is its own business, and the double's isn't the same.
        """
        client, server = self.states(port)
        if self.guarded and DENY in client[2] | server[2]:
            return False
        if not client[2] or not server[2]:
            return not client[2] and not server[2]
        mirrored = all(
            (send_id == peer_recv_id) == (recv_id == peer_send_id)
            for send_id, recv_id in client[2]
            for peer_send_id, peer_recv_id in server[2]
        )
        return mirrored and all(
            any(key[0] == end[0] and key[::-1] in other[2] for key in end[2])
            for end, other in ((client, server), (server, client))
        )

    def states(self, port: int) -> tuple[Any, Any]:
        pair = pair_of(self.bench, port)
        return self.ask('client', Read(pair)), self.ask('server', Read(pair.reversed()))

    def forget(self, port: int) -> None:
        pair = pair_of(self.bench, port)
        self.bench.client.drop_connection(pair)
        self.bench.server.drop_connection(pair.reversed())
        for ends in (self.near, self.far):
            if port in ends:
                ends.pop(port).close()

    def abort(self, port: int) -> object:
        if port not in self.far:
            return None
        answers = self.ask('server', Abort(pair_of(self.bench, port).reversed(), 'end'))
        # An ESTABLISHED end whose keys the RST doesn't fit would swallow what comes next.
        self.ask('client', Abort(pair_of(self.bench, port), 'end'))
        self.forget(port)
        return answers


def _plain(event: object) -> object:
    """Return what must be the same: not the words, and not how many segments TCP took."""
    match event:
        case Done():
            return 'done'
        case Failed():
            return event.cause
        case KeyState():
            return (
                event.current,
                event.rnext,
                frozenset((key.send_id, key.recv_id) for key in event.keys),
                frozenset(key.bad for key in event.keys),
            )
    raise AssertionError(event)


def _steps(chance: random.Random) -> Callable[[World], object]:
    """One step, to be taken on both worlds."""
    port, number, other = chance.choice(PORTS), chance.randrange(5), chance.randrange(5)
    side = chance.choice(['client', 'server'])
    end = 0 if side == 'client' else 1

    def mkt(world: World, number: int = number) -> Mkt:
        return world.mkt(port, number)[end]

    def on_connection(make: Callable[[Mkt], Command]) -> Callable[[World], object]:
        return lambda world: world.ask(side, make(mkt(world)))

    choices: list[tuple[int, Callable[[World], object]]] = [
        (12, lambda w: w.open(port, number)),
        (8, lambda w: w.rotate(port, number)),
        (1, lambda w: w.bind(port)),
        (1, lambda w: w.connect(port)),
        (8, lambda w: w.talk(port)),
        (2, lambda w: w.abort(port)),
        (3, lambda w: w.ask('server', Install(w.mkt(port, number)[1], Where.LISTENER))),
        (3, lambda w: w.ask('server', Remove(w.mkt(port, number)[1], Where.LISTENER))),
        (8, on_connection(lambda m: Install(m, Where.CONNECTION))),
        (4, on_connection(lambda m: Remove(m, Where.CONNECTION))),
        (6, on_connection(SetRNext)),
        (3, on_connection(Prune)),
        (1, lambda w: w.ask(side, Remove(mkt(w), Where.CONNECTION, switch_to=mkt(w, other)))),
        (1, lambda w: w.ask('server', Guard(ip_network(w.bench.a), PORT))),
        (1, lambda w: w.ask('server', Unguard(ip_network(w.bench.a), PORT))),
    ]
    weights = [weight for weight, _ in choices]
    return chance.choices([step for _, step in choices], weights)[0]


@pytest.mark.kernel
@pytest.mark.parametrize('version', [4, 6])
@pytest.mark.parametrize('seed', range(40))
def test_double_answers_as_the_kernel_does(kernel_namespace: None, seed: int, version: int) -> None:
    chance = random.Random(seed)
    kernel_bench = KernelBench(version)
    kernel, double = World.on(kernel_bench), World.on(MemoryBench(version))
    history = []
    try:
        for number in range(STEPS):
            step = _steps(chance)
            answers = step(kernel), step(double)
            history.append((number, *answers))
            assert answers[0] == answers[1], history
            for port in PORTS:
                assert kernel.states(port) == double.states(port), (port, history)
    finally:
        kernel_bench.close()
