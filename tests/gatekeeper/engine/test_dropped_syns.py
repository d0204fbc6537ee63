"""A SYN under manual keys that fits none: each end says why, and what to do."""

from __future__ import annotations

import os
from contextlib import suppress
from math import inf
from queue import Queue
from typing import cast

import pytest

from gatekeeper.engine import dropped_syns
from gatekeeper.reporting.events import EventName, OperatorEvent
from gatekeeper.service.gatekeeper import Gatekeeper
from gatekeeper.state.connection import Phase
from gatekeeper.state.snapshot import snapshot
from gatekeeper.state.ticket import Ticket
from tcpao.backend import Backend
from tcpao.installer import KeyCounters, KeyState, Read
from tcpao.mkt import SocketPair
from tcpao.refusal import DroppedSyn, Reason
from tests.gatekeeper.manual_world import PAIR, key, sessions, two_routers, up
from tests.gatekeeper.service.test_mailbox import MemoryBackend
from tests.gatekeeper.world import Router, World, pair_of, policies
from tests.gatekeeper.world import two_routers as negotiating

HERS = PAIR.reversed()


def tell(router: Router, reason: Reason, key_id: int | None, pair: SocketPair = HERS) -> None:
    answer = pair.local == PAIR.local
    router.core.syn_dropped(DroppedSyn(reason, pair, key_id, is_answer=answer), router.world.now)
    router.pump()


@pytest.mark.parametrize(
    ('reason', 'key_id', 'cause', 'hint'),
    [
        (Reason.UNSIGNED, None, 'it has no TCP-AO', 'TCP MD5 or nothing'),
        (
            Reason.UNKNOWN_KEY,
            99,
            'it is under KeyID 99, recv-ids accepted now: 11 12',
            'send-id there is recv-id here',
        ),
        (
            Reason.BAD_MAC,
            11,
            'its MAC is wrong under key 1 (SendID 21, RecvID 11)',
            'the same key-file, algorithm and tcp-options',
        ),
    ],
)
def test_fault_of_a_peers_syn_is_told_and_shown(
    reason: Reason, key_id: int | None, cause: str, hint: str
) -> None:
    world = World()
    _, r2 = two_routers(world, [key(1), key(2)])
    tell(r2, reason, key_id)
    (note,) = r2.noted('refused')
    assert (note.session, note.details['neighbor']) == ('ipv4 unicast', '10.0.0.1')
    assert note.details['step'] == "the peer's SYN"
    assert note.details['cause'] == cause
    assert hint in str(note.details['hint'])
    row = snapshot(r2.core.state, world.now)[0]
    assert row['last_error'] == f"the peer's SYN: {cause}"
    assert row['try_next'] == note.details['hint']


def test_fault_of_an_answer_to_our_syn_is_told_and_shown() -> None:
    world = World()
    r1, _ = two_routers(world, [key(1)])
    tell(r1, Reason.UNSIGNED, None, PAIR)
    (note,) = r1.noted('refused')
    assert note.details['step'] == "the peer's answer to our SYN"


def test_future_key_is_named() -> None:
    world = World()
    _, r2 = two_routers(world, [key(1)], [key(1, send=(world.now + 100, inf))])
    tell(r2, Reason.UNKNOWN_KEY, 11)
    assert 'no key that may be sent under before key 1' in str(
        r2.noted('refused')[0].details['cause']
    )


def test_session_has_no_error_when_it_is_up_at_a_stray_syn() -> None:
    world = World()
    _, r2 = up(world, [key(1)])
    tell(r2, Reason.UNSIGNED, None)
    assert not r2.noted('refused')


@pytest.mark.parametrize(
    'pair',
    [
        SocketPair(HERS.local, 180, HERS.remote, HERS.remote_port),
        SocketPair(HERS.local, HERS.local_port, HERS.local, HERS.remote_port),
    ],
    ids=['another port', 'another peer'],
)
def test_drop_is_not_told_when_it_concerns_no_session(pair: SocketPair) -> None:
    world = World()
    _, r2 = two_routers(world, [key(1)])
    tell(r2, Reason.UNSIGNED, None, pair)
    assert not r2.noted('refused')


@pytest.mark.parametrize(
    ('reason', 'said'),
    [
        (Reason.UNSIGNED, 'it has no TCP-AO'),
        (Reason.BAD_MAC, 'its MAC is wrong under the negotiated key, KeyID 5'),
        (Reason.UNKNOWN_KEY, 'it is under KeyID 5, not a key of now'),
    ],
)
def test_syn_dropped_tells_it_of_negotiated_sessions(reason: Reason, said: str) -> None:
    """IKE knows nothing of what happens to the segments afterwards."""
    world = World()
    _, r2 = negotiating(world)
    tell(r2, reason, None if reason is Reason.UNSIGNED else 5)
    assert any(said in str(note.details['cause']) for note in r2.noted('refused'))


# --- from the backend to the log ----------------------------------------------------------------


class TellingBackend(MemoryBackend):
    """One that has something to tell."""

    def __init__(self) -> None:
        super().__init__()
        self._reading, self._writing = os.pipe2(os.O_NONBLOCK)
        self._told: list[DroppedSyn] = []

    def refusals_fileno(self) -> int:  # type: ignore[override]
        return self._reading

    def refusals(self) -> list[DroppedSyn]:
        with suppress(BlockingIOError):
            os.read(self._reading, 1)
        told, self._told = self._told, []
        return told

    def tell(self, refusal: DroppedSyn) -> None:
        self._told.append(refusal)
        os.write(self._writing, b'.')

    def close(self) -> None:
        os.close(self._reading)
        os.close(self._writing)


def test_thread_wakes_when_the_backend_tells_something() -> None:
    backend, refused = TellingBackend(), Queue[OperatorEvent]()

    def note(record: OperatorEvent) -> None:
        if record.event is EventName.REFUSED:
            refused.put(record)

    gatekeeper = Gatekeeper(router='r2', record=note, backend=cast(Backend, backend))
    gatekeeper.start()
    try:
        gatekeeper.configure(sessions('r2', [key(1)]))
        backend.tell(DroppedSyn(Reason.UNSIGNED, HERS, None, is_answer=False))
        record = refused.get(timeout=30)
    finally:
        gatekeeper.stop()
        backend.close()
    assert record.details['cause'] == 'it has no TCP-AO'


# --- what a socket has counted ------------------------------------------------------------------


def counted(bad: int = 0, not_found: int = 0, unsigned: int = 0) -> KeyState:
    pair = pair_of('ipv4 unicast')
    return KeyState(pair, 1, 1, (KeyCounters(1, 1, 0, bad),), not_found, unsigned)


@pytest.mark.parametrize(
    ('seen', 'said'),
    [
        (counted(bad=5), 'its MAC is wrong under our key (5 segments)'),
        (counted(unsigned=5), 'it has no TCP-AO (5 segments)'),
        (counted(not_found=5), 'it is under a KeyID that is none of ours (5 segments)'),
        (counted(), None),
    ],
)
def test_opener_tells_what_became_of_answers(seen: KeyState, said: str | None) -> None:
    """A kernel drops in silence, and counts."""
    world = World()
    world.router('r2', policies('r2'), listens=True)
    r1 = world.router('r1', policies('r1'), listens=False)
    world.run(2)
    r1.core.open('r1 ipv4 unicast', seen.pair, Ticket(lambda: None), world.now)
    conn = r1.core.state.connections[seen.pair]
    conn.phase = Phase.WAITING
    r1.core.take_commands()
    dropped_syns.look_for_answers(r1.core.state, conn, world.now)
    assert r1.core.take_commands() == [Read(seen.pair)]
    r1.core.handle(seen, world.now)
    r1.pump()
    causes = [note.details['cause'] for note in r1.noted('refused')]
    assert causes == ([said] if said else [])
