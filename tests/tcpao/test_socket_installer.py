"""Order and roll-back of the installer's commands, where a socket refuses half-way."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from keymaterial import Secret
from tcpao.deny_keys import DENY_SECRET_LENGTH
from tcpao.installer import (
    Cause,
    Done,
    Failed,
    Guard,
    GuardAll,
    Install,
    Prune,
    Remove,
    Unguard,
    UnguardAll,
    Where,
)
from tcpao.key_socket import InstalledKey, InstallError, Key
from tcpao.mkt import ALGORITHMS, IPNetwork, Mkt, SocketPair
from tests.doubles.memory_installer import MemoryInstaller, MemorySocket, Network

PEER = ip_network('10.0.0.1')
PAIR = SocketPair(ip_address('10.0.0.2'), 179, ip_address('10.0.0.1'), 40001)
GUARD, UNGUARD = Guard(PEER, 179), Unguard(PEER, 179)


def mkt(ids: tuple[int, int] = (2, 1)) -> Mkt:
    return Mkt(f'{ids}', PAIR, ALGORITHMS['hmac-sha-1-96'], True, *ids, Secret(b'key'), 0.0)


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def installer(network: Network) -> MemoryInstaller:
    return MemoryInstaller(network)


@pytest.fixture
def listeners(network: Network, installer: MemoryInstaller) -> list[MemorySocket]:
    sockets = [network.listen(ip_address(address), 179) for address in ('10.0.0.2', '0.0.0.0')]
    for socket in sockets:
        installer.add_listener(socket)
    return sockets


def keys(socket: MemorySocket) -> set[tuple[int, int]]:
    state = socket.read()
    return {(key.send_id, key.recv_id) for key in state.keys} if state else set()


def deny(socket: MemorySocket, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise InstallError(Cause.REFUSED, 'the test wants it so')

    monkeypatch.setattr(socket, method, refuse)


def test_deny_key_is_random_for_each_socket_and_forgotten(
    installer: MemoryInstaller, listeners: list[MemorySocket], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[Key, bytes]] = []
    for socket in listeners:
        monkeypatch.setattr(
            socket, 'add', lambda key, select: given.append((key, key.master_key.reveal()))
        )
    installer.submit(GUARD)
    assert len({secret for _, secret in given}) == len(listeners)
    for key, secret in given:
        assert len(secret) == DENY_SECRET_LENGTH
        assert key.master_key.wiped
        assert (key.send_id, key.recv_id, key.peer) == (0, 0, PEER)


def test_guard_is_on_none_when_the_second_listener_fails(
    installer: MemoryInstaller, listeners: list[MemorySocket], monkeypatch: pytest.MonkeyPatch
) -> None:
    deny(listeners[1], monkeypatch, 'add')
    installer.submit(GUARD)
    assert installer.events() == [Failed(GUARD, Cause.REFUSED, 'the test wants it so')]
    assert keys(listeners[0]) == set()
    monkeypatch.undo()
    installer.submit(GUARD)
    assert installer.events() == [Done(GUARD)]
    assert [keys(socket) for socket in listeners] == [{(0, 0)}] * 2


def test_unguard_leaves_every_listener_guarded_when_it_fails(
    installer: MemoryInstaller, listeners: list[MemorySocket], monkeypatch: pytest.MonkeyPatch
) -> None:
    installer.submit(GUARD)
    deny(listeners[1], monkeypatch, 'delete')
    installer.submit(UNGUARD)
    assert installer.events()[-1] == Failed(UNGUARD, Cause.REFUSED, 'the test wants it so')
    assert [keys(socket) for socket in listeners] == [{(0, 0)}] * 2


OTHERS = tuple(Guard(ip_network(f'10.0.1.{number}'), 179) for number in range(4))


def test_many_guards_are_one_command(
    installer: MemoryInstaller, listeners: list[MemorySocket]
) -> None:
    installer.submit(GuardAll((GUARD, *OTHERS, GUARD)))
    assert [type(event) for event in installer.events()] == [Done]
    for socket in listeners:
        state = socket.read()
        assert state is not None
        assert {key.peer for key in state.keys} == {guard.peer for guard in (GUARD, *OTHERS)}
    installer.submit(UnguardAll((GUARD, *OTHERS)))
    assert [type(event) for event in installer.events()] == [Done]
    assert [keys(socket) for socket in listeners] == [set()] * 2


@pytest.mark.parametrize(
    'wrong', [Guard(ip_network('10.0.1.0/24'), 179), Guard(ip_network('10.0.1.2/31'), 179)]
)
def test_guards_are_all_put_on_or_none(
    installer: MemoryInstaller, listeners: list[MemorySocket], wrong: Guard
) -> None:
    for guards in ((*OTHERS, wrong), (wrong, *OTHERS)):
        installer.submit(GuardAll(guards))
        (event,) = installer.events()
        assert isinstance(event, Failed)
        assert event.cause is Cause.KEYID_IN_USE
        assert [keys(socket) for socket in listeners] == [set()] * 2
    installer.submit(GuardAll(OTHERS))
    assert [type(event) for event in installer.events()] == [Done]


def test_guards_are_all_off_when_one_socket_refuses(
    installer: MemoryInstaller, listeners: list[MemorySocket], monkeypatch: pytest.MonkeyPatch
) -> None:
    deny(listeners[1], monkeypatch, 'add')
    installer.submit(GuardAll(OTHERS))
    assert isinstance(installer.events()[0], Failed)
    assert keys(listeners[0]) == set()


def test_guards_are_all_taken_off_or_none(
    installer: MemoryInstaller, listeners: list[MemorySocket], monkeypatch: pytest.MonkeyPatch
) -> None:
    installer.submit(GuardAll(OTHERS))
    installer.submit(UnguardAll((*OTHERS, GUARD)))
    assert isinstance(installer.events()[-1], Failed), 'one of them is not there'
    deny(listeners[1], monkeypatch, 'delete')
    installer.submit(UnguardAll(OTHERS))
    assert isinstance(installer.events()[-1], Failed)
    for socket in listeners:
        state = socket.read()
        assert state is not None
        assert {key.peer for key in state.keys} == {guard.peer for guard in OTHERS}


def test_first_refusal_is_told_when_the_roll_back_fails_too(
    installer: MemoryInstaller, listeners: list[MemorySocket], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = Install(mkt(), Where.LISTENER)
    listeners[1].network.keys_per_socket = 0

    def gone(*_: object, **__: object) -> None:
        raise InstallError(Cause.GONE, 'closed meanwhile')

    monkeypatch.setattr(listeners[0], 'add', lambda key, select: None)
    monkeypatch.setattr(listeners[0], 'delete', gone)
    installer.submit(command)
    (event,) = installer.events()
    assert isinstance(event, Failed)
    assert event.cause is Cause.NO_MEMORY


def test_unguard_works_when_a_listener_lost_its_key(
    installer: MemoryInstaller, listeners: list[MemorySocket]
) -> None:
    install, remove = Install(mkt(), Where.LISTENER), Remove(mkt(), Where.LISTENER)
    installer.submit(install)
    listeners[0].delete(PEER, 2, 1)
    installer.submit(remove)
    assert installer.events() == [Done(install), Done(remove)]
    assert keys(listeners[1]) == set()


def test_closed_listener_is_passed_over(
    installer: MemoryInstaller, listeners: list[MemorySocket]
) -> None:
    listeners[0].close()
    install = Install(mkt(), Where.LISTENER)
    installer.submit(install)
    assert installer.events() == [Done(install)]


class Child(MemorySocket):
    """Records the order of deletions."""

    deleted: list[tuple[int, int]]

    def delete(
        self, peer: IPNetwork, send_id: int, recv_id: int, switch_to: InstalledKey | None = None
    ) -> None:
        self.deleted.append((send_id, recv_id))
        super().delete(peer, send_id, recv_id, switch_to)


def child_with(network: Network, *ids: tuple[int, int]) -> Child:
    """Return a child with these keys; the last one is Current and RNext."""
    child = Child(network, PAIR.local, PAIR.local_port, network.socket(PAIR).state, PAIR)
    child.deleted = []
    for send_id, recv_id in ids:
        algorithm = ALGORITHMS['hmac-sha-1-96']
        child.add(Key(PEER, send_id, recv_id, algorithm, True, Secret(b'key')), select=True)
    return child


def test_pruning_takes_the_deny_key_first(network: Network, installer: MemoryInstaller) -> None:
    child = child_with(network, (5, 6), (0, 0), (7, 8), (2, 1))
    installer.add_connection(PAIR, child)
    installer.submit(Prune(mkt()))
    assert installer.events() == [Done(Prune(mkt()))]
    assert child.deleted[0] == (0, 0)
    assert set(child.deleted) == {(0, 0), (5, 6), (7, 8)}


def test_pruning_reads_back_what_is_left(
    network: Network, installer: MemoryInstaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = child_with(network, (0, 0), (2, 1))
    installer.add_connection(PAIR, child)
    monkeypatch.setattr(child, 'delete', lambda *_: None)
    installer.submit(Prune(mkt()))
    (event,) = installer.events()
    assert isinstance(event, Failed)
    assert 'still has 2 keys' in event.text
