"""A load of a thousand neighbors: one question to the packet process, one change of its rules, and
all of it or nothing. Queue and rules are doubles.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Set
from contextlib import closing, contextmanager
from ipaddress import ip_network
from typing import Any, cast

import pytest

from gatekeeper.service.listeners import Listeners
from tcpao.installer import Cause, Done, Failed, Guard, GuardAll, UnguardAll
from tcpao.userspace.client.channel import Channel
from tcpao.userspace.client.installer import UserspaceInstaller
from tcpao.userspace.netlink.nfqueue import Queue
from tcpao.userspace.netlink.owners import SocketOwners
from tcpao.userspace.process.process import Process
from tcpao.userspace.process.queues import Queues
from tcpao.userspace.protocol.codec import encode
from tcpao.userspace.protocol.messages import AddAll
from tcpao.userspace.rules.interface import Kind, Rules, RulesError
from tcpao.userspace.selectors import Selector
from tcpao.userspace.wire.signing import supported
from tests.doubles.memory_installer import MemoryInstaller, Network
from tests.gatekeeper.engine.test_many_neighbors import NEIGHBORS, neighbors
from tests.gatekeeper.manual_world import key
from tests.tcpao.userspace.protocol.test_codec import KEY, NAME

GUARDS = tuple(Guard(ip_network((0x0A14_0000 + number, 32)), 179) for number in range(NEIGHBORS))


class NoRules:
    """Counts changes."""

    def __init__(self) -> None:
        self.made: Set[Selector] = frozenset()
        self.changes = 0
        self.broken = False
        self.kind = Kind.NFTABLES
        self.watch, self._other = socket.socketpair()

    def change(self, wanted: Set[Selector]) -> None:
        self.changes += 1
        if self.broken:
            raise RulesError('no room')
        self.made = wanted

    def remove_all(self) -> None:
        self.made = frozenset()

    def close(self) -> None:
        self.watch.close()
        self._other.close()


class NoQueue:
    """Without packets."""

    number = 20000

    def __init__(self) -> None:
        self._near, self._far = socket.socketpair()

    def fileno(self) -> int:
        return self._near.fileno()

    def receive(self) -> list[Any]:
        return []

    def close(self) -> None:
        self._near.close()
        self._far.close()


def no_queues() -> Queues:
    return Queues(cast(Queue, NoQueue()), cast(Queue, NoQueue()))


@contextmanager
def processing(rules: NoRules, buffer: int | None = None) -> Iterator[UserspaceInstaller]:
    """A packet process in a thread, and an installer that asks it. `buffer`: what a socket has
    room for, in octets."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if buffer is not None:
        # The kernel doubles it.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer // 2)
    process = Process([theirs], no_queues(), lambda: cast(Rules, rules), SocketOwners())
    thread = threading.Thread(target=process.run)
    thread.start()
    channel = Channel(ours, lambda: None)
    try:
        yield UserspaceInstaller(channel, supported())
    finally:
        channel.close('the test is over')
        thread.join()
        theirs.close()


def test_thousand_guards_are_one_change_of_the_rules() -> None:
    rules = NoRules()
    with processing(rules) as installer, closing(socket.create_server(('127.0.0.1', 0))) as one:
        port = one.getsockname()[1]
        guards = tuple(Guard(guard.peer, port) for guard in GUARDS)
        installer.add_listener(one)
        installer.submit(GuardAll(guards))
        assert [type(event) for event in installer.events()] == [Done]
        assert len(rules.made) == NEIGHBORS
        assert rules.changes == 1
        with closing(socket.create_server(('127.0.0.2', port))) as other:
            installer.add_listener(other)
            assert len(rules.made) == 2 * NEIGHBORS
            assert rules.changes == 2
            installer.drop_listener(other)
            assert rules.changes == 3
        installer.submit(UnguardAll(guards))
        assert [type(event) for event in installer.events()] == [Done]
        assert rules.made == frozenset()
        assert rules.changes == 4


def test_load_is_not_limited_by_a_sockets_room() -> None:
    buffer = 64 * 1024
    assert len(encode(AddAll(tuple((NAME, KEY) for _ in GUARDS)))) > buffer
    rules = NoRules()
    with (
        processing(rules, buffer) as installer,
        closing(socket.create_server(('127.0.0.1', 0))) as one,
    ):
        guards = tuple(Guard(guard.peer, one.getsockname()[1]) for guard in GUARDS)
        installer.add_listener(one)
        installer.submit(GuardAll(guards))
        assert [type(event) for event in installer.events()] == [Done]
        assert len(rules.made) == NEIGHBORS


def test_guards_are_refused_when_there_are_no_rules() -> None:
    rules = NoRules()
    with processing(rules) as installer, closing(socket.create_server(('127.0.0.1', 0))) as one:
        port = one.getsockname()[1]
        guards = tuple(Guard(guard.peer, port) for guard in GUARDS)
        installer.add_listener(one)
        rules.broken = True
        installer.submit(GuardAll(guards))
        (event,) = installer.events()
        assert isinstance(event, Failed)
        assert (event.cause, event.text) == (Cause.NO_RULE, 'no rule: no room')
        rules.broken = False
        # Nothing of them is left that would refuse the same ids.
        installer.submit(GuardAll(guards))
        assert [type(event) for event in installer.events()] == [Done]
        assert len(rules.made) == NEIGHBORS


def test_second_load_sends_only_what_differs() -> None:
    installer = MemoryInstaller(Network())
    listeners = Listeners(cast(Any, installer))
    policies = neighbors([key(1)])
    listeners.guard(policies)
    listeners.guard(policies)
    listeners.keep(policies[:-1])
    listeners.keep(policies[:-1])
    assert [type(command) for command in installer.submitted] == [GuardAll, UnguardAll]
    guarding, freeing = installer.submitted
    assert isinstance(guarding, GuardAll)
    assert isinstance(freeing, UnguardAll)
    assert len(guarding.guards) == NEIGHBORS
    assert len(freeing.guards) == 1


@pytest.mark.parametrize('kind', [GuardAll, UnguardAll])
def test_guards_stay_as_they_were_when_a_load_is_refused(kind: type) -> None:
    installer = MemoryInstaller(Network())
    listeners = Listeners(cast(Any, installer))
    policies = neighbors([key(1)])
    if kind is UnguardAll:
        listeners.guard(policies)
    installer.refuse_next(kind, Cause.REFUSED)
    if kind is GuardAll:
        with pytest.raises(Exception, match='the test wants it so'):
            listeners.guard(policies)
        assert len(listeners.guard(policies)) == NEIGHBORS
    else:
        listeners.keep([])
        assert listeners.guard(policies) == []
        listeners.keep([])
        assert len(listeners.guard(policies)) == NEIGHBORS
