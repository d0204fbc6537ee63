"""Before connect(): nothing leaves on a socket that has no negotiated key."""

from __future__ import annotations

import gc
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from exabgp.logger import log

from gatekeeper.reporting.events import EventName
from plugin.log import Recorder
from tcpao.installer import Abort, Close
from tests.plugin.doubles import Daemon
from tests.plugin.peers import (
    accepted,
    arrived,
    free_port,
    free_ports,
    linger,
    listener,
    ready,
    received,
)
from tests.plugin.texts import SECTION, neighbor

Start = Callable[..., Daemon]


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with listener() as sock:
        yield sock


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what was logged as a warning or worse."""
    lines: list[str] = []
    for level in ('warning', 'error', 'critical'):
        monkeypatch.setattr(
            log, level, lambda message, source='', level='': lines.append(message())
        )
    return lines


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[tuple[EventName, dict[str, object]]]:
    seen: list[tuple[EventName, dict[str, object]]] = []
    monkeypatch.setattr(
        Recorder, 'record', lambda self, record: seen.append((record.event, record.details))
    )
    return seen


def active(daemon: Start, remote: socket.socket, section: str = SECTION, **changes: Any) -> Daemon:
    """A daemon that wants to connect to the peer."""
    more = f'    connect {remote.getsockname()[1]};\n'
    started = daemon(neighbor(section=section, more=more, **changes))
    assert started.begin()
    return started


def pinned(port: int) -> str:
    return SECTION.replace('psk-file', f'session ipv4 unicast {{ source-port {port}; }} psk-file')


def test_socket_is_bound_and_asked_for_but_not_connected(
    daemon: Start, peer: socket.socket
) -> None:
    one = active(daemon, peer)
    one.until(lambda: one.gatekeeper.requests)
    (asked,) = one.gatekeeper.requests
    assert asked.session_key == one.peer().neighbor.name()
    assert str(asked.pair.local) == '127.0.0.1'
    assert (str(asked.pair.remote), asked.pair.remote_port) == peer.getsockname()
    link = one.runtime.links.get(asked.pair)
    assert link is not None
    assert link.sock.getsockname()[1] == asked.pair.local_port
    assert linger(link.sock) == struct.pack('ii', 1, 0)
    for _ in range(3):
        one.turn()
    assert accepted(peer) is None
    assert one.peer().proto is None


def test_pinned_port_is_bound(daemon: Start, peer: socket.socket) -> None:
    port = free_port()
    one = active(daemon, peer, section=pinned(port))
    one.until(lambda: one.gatekeeper.requests)
    assert one.gatekeeper.requests[0].pair.local_port == port


def test_attempt_works_over_ipv6(daemon: Start) -> None:
    with listener('::1') as peer:
        port = free_port('::1')
        one = active(daemon, peer, section=pinned(port), peer='::1', local='::1')
        one.until(lambda: one.gatekeeper.requests)
        (asked,) = one.gatekeeper.requests
        assert (str(asked.pair.local), asked.pair.local_port) == ('::1', port)
        asked.grant()
        one.until(lambda: one.gatekeeper.proofs)
        one.gatekeeper.proofs[0].grant()
        one.until(lambda: one.gatekeeper.is_up)


def test_attempt_connects_when_granted_and_opens_when_proven(
    daemon: Start, peer: socket.socket, events: list[tuple[EventName, dict[str, object]]]
) -> None:
    one = active(daemon, peer)
    one.until(lambda: one.gatekeeper.requests)
    one.gatekeeper.requests[0].grant()
    one.until(lambda: one.gatekeeper.proofs)
    (proof,) = one.gatekeeper.proofs
    assert proof.pair == one.gatekeeper.requests[0].pair
    end = arrived(peer)
    for _ in range(3):
        one.turn()
    assert received(end) == b''  # unproven: not an octet
    proof.grant()
    one.until(lambda: len(events) == 3)
    assert (received(ready(end)) or b'')[18:19] == b'\x01'  # OPEN
    assert one.gatekeeper.is_up == [proof.pair]
    assert one.peer().proto.connection.io is one.runtime.links.get(proof.pair).sock  # type: ignore[union-attr]
    assert [event for event, _ in events] == [EventName.BIND, EventName.SYN, EventName.OPEN]


def test_attempt_does_not_wait_when_the_reactor_sleeps(
    daemon: Start, peer: socket.socket, events: list[tuple[EventName, dict[str, object]]]
) -> None:
    one = active(daemon, peer)
    one.gatekeeper.grants_after = 0.05
    one.until(lambda: len(events) == 3, sleep=300_000)
    assert events[-1][0] == EventName.OPEN


def test_delay_after_a_failure_ends_a_long_sleep(daemon: Start, peer: socket.socket) -> None:
    one = active(daemon, peer)
    for attempts in (1, 2, 3):
        one.until(lambda attempts=attempts: len(one.gatekeeper.requests) == attempts, 300_000)  # type: ignore[misc]
        one.gatekeeper.requests[-1].refuse('neighbor x: no')


def test_refused_attempt_never_connects_and_tries_again(
    daemon: Start, peer: socket.socket, told: list[str]
) -> None:
    one = active(daemon, peer)
    one.until(lambda: one.gatekeeper.requests)
    first = one.gatekeeper.requests[0]
    first.refuse('neighbor 127.0.0.2 session ipv4 unicast: IKE: no IKE answer; check the peer')
    one.until(lambda: one.gatekeeper.is_gone)
    assert one.gatekeeper.is_gone == [first.pair]
    assert accepted(peer) is None
    assert told == ['neighbor 127.0.0.2 session ipv4 unicast: IKE: no IKE answer; check the peer']
    one.until(lambda: len(one.gatekeeper.requests) > 1)
    assert one.peer()._delay._next > 0


def test_repeated_failure_is_not_told_again(
    daemon: Start, peer: socket.socket, told: list[str]
) -> None:
    one = active(daemon, peer)
    for attempt in (1, 2, 3):
        one.until(lambda attempt=attempt: len(one.gatekeeper.requests) == attempt)  # type: ignore[misc]
        one.gatekeeper.requests[-1].refuse('no answer' if attempt < 3 else 'no route')
    one.until(lambda: len(one.gatekeeper.requests) == 4)
    name = 'neighbor 127.0.0.2 session ipv4 unicast'
    assert told == [f'{name}: no answer', f'{name}: no route']


def test_lasting_failure_is_told_again_after_a_reload(
    daemon: Start, peer: socket.socket, told: list[str]
) -> None:
    one = active(daemon, peer)
    for attempt in (1, 2):
        one.until(lambda attempt=attempt: len(one.gatekeeper.requests) == attempt)  # type: ignore[misc]
        one.runtime.configure(list(one.runtime.policies.values()))
        one.gatekeeper.requests[-1].refuse('no answer')
    one.until(lambda: len(told) == 2)


def test_failed_proof_aborts_without_an_octet(
    daemon: Start, peer: socket.socket, told: list[str]
) -> None:
    one = active(daemon, peer)
    one.until(lambda: one.gatekeeper.requests)
    one.gatekeeper.requests[0].grant()
    one.until(lambda: one.gatekeeper.proofs)
    end = arrived(peer)
    one.gatekeeper.proofs[0].refuse('the socket has no TCP-AO')
    one.until(lambda: one.gatekeeper.is_gone)
    assert received(ready(end)) is None
    assert 'neighbor 127.0.0.2 session ipv4 unicast: the socket has no TCP-AO' in told


def test_refused_connection_is_told_and_is_no_connection(daemon: Start, told: list[str]) -> None:
    with listener() as peer:
        port = peer.getsockname()[1]
    one = daemon(neighbor(more=f'    connect {port};\n'))
    assert one.begin()
    one.until(lambda: one.gatekeeper.requests)
    one.gatekeeper.requests[0].grant()
    one.until(lambda: one.gatekeeper.is_gone)
    assert told == [
        'neighbor 127.0.0.2 session ipv4 unicast: connecting: Connection refused; '
        'does the peer listen?'
    ]
    assert not one.gatekeeper.proofs


def test_attempt_ends_when_the_gatekeeper_never_answers(
    daemon: Start, peer: socket.socket, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('plugin.connections.outgoing.ANSWER_LATE', 0.05)
    one = active(daemon, peer, section=SECTION.replace('psk-file', 'timeout 1; psk-file'))
    one.until(lambda: one.gatekeeper.requests)
    assert one.runtime.bounded(300_000) < 1100  # the reactor is awake by then
    one.until(lambda: one.gatekeeper.is_gone)
    assert one.gatekeeper.requests[0].cancelled
    assert 'no result within 1.05 s' in told[0]


def test_taken_port_is_told_with_the_port(
    daemon: Start, peer: socket.socket, told: list[str]
) -> None:
    with socket.socket() as other:
        other.bind(('127.0.0.1', 0))
        other.listen()
        port = other.getsockname()[1]
        one = active(daemon, peer, section=pinned(port))
        one.until(lambda: told)
    assert told[0].startswith(
        f'neighbor 127.0.0.2 session ipv4 unicast: binding the socket: could not bind to '
        f'127.0.0.1 port {port}: '
    )
    assert not one.gatekeeper.requests
    assert not one.gatekeeper.is_gone


def test_missing_source_interface_is_told(
    daemon: Start, peer: socket.socket, told: list[str]
) -> None:
    more = f'    connect {peer.getsockname()[1]};\n    source-interface nosuch0;\n'
    one = daemon(neighbor(more=more))
    assert one.begin()
    one.until(lambda: told)
    assert 'nosuch0' in told[0]


# --- an end of waiting cancels ------------------------------------------------------------------

ENDINGS: dict[str, Callable[[Daemon], object]] = {
    'the neighbor is removed': lambda one: one.peer().remove(),
    'the daemon stops': lambda one: one.reactor.shutdown(),
    'the session is restarted': lambda one: one.peer().reestablish(),
    'the gatekeeper closes': lambda one: one.gatekeeper.command(
        Close(one.gatekeeper.requests[0].pair, 'the configuration changed')
    ),
    'the gatekeeper aborts': lambda one: one.gatekeeper.command(
        Abort(one.gatekeeper.requests[0].pair, 'revoked')
    ),
}


@pytest.mark.parametrize('how', ENDINGS)
def test_pending_request_is_cancelled(how: str, daemon: Start, peer: socket.socket) -> None:
    one = active(daemon, peer)
    one.until(lambda: one.gatekeeper.requests)
    asked = one.gatekeeper.requests[0]
    ENDINGS[how](one)
    if one.reactor.listener is not None:
        for _ in range(3):
            one.turn()
    gc.collect()
    assert asked.cancelled
    assert one.gatekeeper.is_gone.count(asked.pair) == 1
    assert one.runtime.links.get(asked.pair) is None
    assert accepted(peer) is None


def test_changed_pin_starts_the_attempt_anew(daemon: Start, peer: socket.socket) -> None:
    first, second = free_ports(2)
    one = active(daemon, peer, section=pinned(first))
    one.until(lambda: one.gatekeeper.requests)
    asked = one.gatekeeper.requests[0]
    assert one.reload(one.path.read_text().replace(f'port {first}', f'port {second}'))
    one.until(lambda: one.gatekeeper.requests[-1].pair.local_port == second)
    assert asked.cancelled


def test_other_neighbors_are_served_while_one_waits(daemon: Start, peer: socket.socket) -> None:
    with listener('127.0.0.3') as other:
        more = f'    connect {other.getsockname()[1]};\n'
        open_one = neighbor(section='', peer='127.0.0.3', more=more)
        gated = neighbor(more=f'    connect {peer.getsockname()[1]};\n')
        one = daemon(gated + open_one)
        assert one.begin()
        one.until(lambda: one.gatekeeper.requests)
        one.until(lambda: one.peer('neighbor 127.0.0.3').stats['send-open'])
        assert accepted(peer) is None


def test_open_neighbor_connects_as_upstreams(daemon: Start, peer: socket.socket) -> None:
    one = active(daemon, peer, section='')
    one.until(lambda: one.peer().stats['send-open'])
    end = arrived(peer)
    assert end.getpeername()[0] == '127.0.0.1'
    assert getattr(one.reactor, 'ikev2', None) is None
    assert linger(one.peer().proto.connection.io) == struct.pack('ii', 0, 0)
