"""Keychains with a router of another make, over a wire: its TCP-AO is the kernel's own and its keys
are given by hand; ours is the kernel's, or the packet process.

The kernel is the oracle: it drops what isn't signed as it would sign it, and counts.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import inf

import pytest

from gatekeeper.policy.keychain import ChainKey
from tcpao.kernel.backend import KernelBackend
from tcpao.kernel.installer import why_unsupported
from tests.gatekeeper import manual_world
from tests.gatekeeper.by_hand import ByHand
from tests.gatekeeper.manual_world import V4, key
from tests.gatekeeper.service.test_gatekeeper import PATIENCE, Daemon, run
from tests.gatekeeper.world import R1, R2
from tests.tcpao.userspace.forked import ForkedBackend
from tests.tcpao.userspace.sites import Site, wired

pytestmark = pytest.mark.kernel

SOON = 4.0
"""Seconds until a lifetime begins."""


@dataclass
class Interop:
    """Our daemon at one end of the wire, another make at the other."""

    ours: Daemon
    theirs: Site
    name: str
    hand: ByHand = field(init=False)

    def configure(self, *keys: ChainKey) -> None:
        """A (re)load of ours; keys as r1 has them."""
        sessions = manual_world.sessions(self.name, list(keys), grace=5)
        self.ours.gatekeeper.configure(sessions)

    def own(self, number: int) -> ChainKey:
        """A key as the other make has it."""
        one = key(number)
        return one if self.name == 'r2' else manual_world.mirrored([one])[0]

    def mine(self, number: int) -> ChainKey:
        """A key as our daemon has it."""
        one = key(number)
        return one if self.name == 'r1' else manual_world.mirrored([one])[0]

    def up(self) -> None:
        """The session comes up under key 1. The other make connects if ours is r2."""
        self.configure(key(1))
        with self.theirs.inside():
            if self.name == 'r2':
                self.hand = ByHand(self.own(1))
            else:
                self.hand = ByHand(self.own(1), port=179, local=str(R2), remote=str(R1))
        if self.name == 'r2':
            self.ours.listen()
            assert self.hand.connect()
        else:
            self.hand.sock.listen()
            self.ours.open(V4)
            self.wait_until(lambda: bool(self.ours.connecting) or bool(self.ours.up))
            self.hand.accept()
        self.wait_until(lambda: bool(self.ours.up))

    def wait_until(self, condition: Callable[[], bool]) -> None:
        run(condition, self.ours)

    def talk(self) -> None:
        """Some segments both ways, and everything arrives."""
        (mine,) = self.ours.up.values()
        mine.settimeout(PATIENCE)
        for _ in range(3):
            for sender, receiver in ((mine, self.hand.sock), (self.hand.sock, mine)):
                octets = os.urandom(5000)
                sender.sendall(octets)
                assert receiver.recv(len(octets), socket.MSG_WAITALL) == octets
        mine.setblocking(False)

    def all_good(self) -> None:
        """No segment was bad at either end, nothing is wrong, and nothing was closed."""
        assert self.hand.bad() == 0
        assert self.row()['last_error'] is None
        assert not self.ours.aborted

    def row(self) -> dict[str, object]:
        (row,) = self.ours.gatekeeper.snapshot()
        return row

    def installed(self, number: int) -> bool:
        """Our daemon has this key on the connection."""
        (pair,) = self.ours.sockets
        wanted = {'send_id': self.mine(number).send_id, 'pair': str(pair)}
        return any(
            record.event == 'mkt_installed' and record.details.items() >= wanted.items()
            for record in self.ours.records
        )


@pytest.fixture(
    scope='module',
    params=[(name, backend) for name in ('r2', 'r1') for backend in ('kernel', 'userspace')],
    ids=['we-listen-kernel', 'we-listen-userspace', 'we-connect-kernel', 'we-connect-userspace'],
)
def interop(request: pytest.FixtureRequest) -> Iterator[Interop]:
    """A session under key 1, which the other make prefers too. As r2 ours listens, as r1 it
    connects. One for the whole module: to start a packet process takes long here."""
    name, backend = request.param
    reason = why_unsupported('hmac-sha-1-96')
    if reason is not None:
        pytest.fail(f'this kernel has no TCP-AO: {reason}')
    with ExitStack() as stack:
        first, second = stack.enter_context(wired())
        here, there = (second, first) if name == 'r2' else (first, second)
        stack.enter_context(here.inside())
        daemon = Daemon(name, KernelBackend() if backend == 'kernel' else ForkedBackend(()))
        stack.callback(daemon.end)
        made = Interop(daemon, there, name)
        made.up()
        stack.callback(made.hand.sock.close)
        yield made


def ids(one: ChainKey) -> tuple[int, int]:
    """Current and RNext where both are this key."""
    return one.send_id, one.recv_id


def test_session_is_up_under_the_first_key(interop: Interop) -> None:
    interop.talk()
    assert interop.hand.ids() == ids(interop.own(1))
    interop.all_good()


def test_other_make_follows_when_we_rotate_first(interop: Interop) -> None:
    """We ask for the new key (our RNext, its Current); it moves its own RNext when its operator
    says so, and until then what we send under the old key is good."""
    hand, old, new = interop.hand, interop.own(1), interop.own(2)
    hand.add(new)
    interop.configure(key(1), key(2))
    interop.talk()
    assert hand.ids() == ids(old), 'a key that is added changes nothing'
    interop.configure(key(2))
    interop.wait_until(lambda: hand.ids() == (new.send_id, old.recv_id))
    interop.talk()
    hand.ask_for(new)
    interop.wait_until(lambda: interop.row()['key'] == 2)
    hand.forget(old)
    interop.talk()
    assert hand.ids() == ids(new)
    interop.all_good()


def test_we_follow_when_the_other_make_rotates_first(interop: Interop) -> None:
    """The other end asks for the new key (its RNext, our Current); our RNext moves with our
    configuration."""
    hand, old, new = interop.hand, interop.own(2), interop.own(3)
    interop.configure(key(2), key(3))
    interop.wait_until(lambda: interop.installed(3))
    hand.add(new)
    hand.ask_for(new)
    interop.talk()
    interop.talk()
    assert hand.ids() == (old.send_id, new.recv_id), 'we send under the new one, and ask for ours'
    interop.configure(key(3))
    interop.wait_until(lambda: hand.ids() == ids(new))
    interop.wait_until(lambda: interop.row()['key'] == 3)
    hand.forget(old)
    interop.talk()
    interop.all_good()


def test_idle_session_rotates_by_lifetime_with_the_other_make(interop: Interop) -> None:
    """Neither end sends data: keepalive probes carry the pointers."""
    hand, new = interop.hand, interop.own(4)
    change = time.time() + SOON
    hand.add(new)
    interop.configure(key(3), key(4, send=(change, inf)))
    assert interop.row()['next_change'] == change
    interop.wait_until(lambda: hand.ids()[0] == new.send_id)
    assert time.time() >= change
    hand.ask_for(new)
    interop.wait_until(lambda: interop.row()['key'] == 4)
    assert hand.ids() == ids(new)
    interop.all_good()
