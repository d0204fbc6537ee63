"""After accept(): a gated peer's socket says nothing until it is proven."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from exabgp.bgp.fsm import FSM
from exabgp.bgp.message import Notify
from exabgp.protocol.family import AFI, SAFI

from gatekeeper.reporting.events import OperatorEvent
from plugin.connections.incoming import MOST_HELD
from tcpao.installer import Abort, Cause
from tcpao.kernel.installer import LinuxInstaller
from tcpao.kernel.saved_syn import NO_SYN
from tcpao.key_socket import InstallError
from tests.plugin.doubles import Asked, Daemon
from tests.plugin.peers import accepted, connected, free_port, linger, listener, ready, received
from tests.plugin.texts import neighbor

Start = Callable[..., Daemon]

PASSIVE = '    passive;\n'
NOTIFICATION = 3


def passive(daemon: Start, more: str = '', **changes: Any) -> tuple[Daemon, int]:
    """A daemon that waits for the peer, and the port on which it does."""
    port = free_port()
    text = neighbor(**{'more': f'{PASSIVE}    listen {port};\n', **changes})
    started = daemon(text + more)
    assert started.begin()
    return started, port


def proof_of(one: Daemon, count: int = 1) -> Asked:
    one.until(lambda: len(one.gatekeeper.proofs) == count)
    return one.gatekeeper.proofs[-1]


def key_of(one: Daemon, family: str = '') -> str:
    return str(one.peer(family).neighbor.name())


def message_types(octets: bytes) -> list[int]:
    """The types of BGP messages."""
    types = []
    while octets:
        types.append(octets[18])
        octets = octets[int.from_bytes(octets[16:18], 'big') :]
    return types


def test_unproven_connection_gets_no_octet_and_an_abort(daemon: Start) -> None:
    one, port = passive(daemon)
    with connected(port) as end:
        proof = proof_of(one)
        assert proof.session_key is None
        assert proof.pair.local_port == port
        link = one.runtime.links.get(proof.pair)
        assert link is not None
        assert linger(link.sock) == struct.pack('ii', 1, 0)
        for _ in range(3):
            one.turn()
        assert received(end) == b''
        proof.refuse('the socket has no TCP-AO')
        one.until(lambda: one.gatekeeper.is_gone)
        with pytest.raises(ConnectionResetError):
            ready(end).recv(1)
        assert one.gatekeeper.is_gone == [proof.pair]
        assert one.peer().proto is None


def test_unproven_peers_octets_reach_no_session(daemon: Start) -> None:
    one, port = passive(daemon)
    with connected(port) as end:
        end.send(b'\xff' * 16 + b'\x00\x13\x04')
        proof = proof_of(one)
        for _ in range(3):
            one.turn()
        assert one.peer().stats['receive-keepalive'] == 0
        proof.refuse('no')
        one.until(lambda: one.gatekeeper.is_gone)


def test_proven_connection_goes_to_its_session(daemon: Start) -> None:
    one, port = passive(daemon, families='ipv4 unicast; ipv6 unicast;', multi_session=True)
    with connected(port) as end:
        proof = proof_of(one)
        proof.grant(key_of(one, 'ipv6-unicast'))
        one.until(lambda: one.gatekeeper.is_up)
        assert one.peer('ipv4-unicast').proto is None
        assert one.peer('ipv6-unicast').proto.connection.io.getpeername() == end.getsockname()
        one.until(lambda: one.peer('ipv6-unicast').stats['send-open'])
        assert message_types(received(ready(end)) or b'') == [1]


def test_two_families_of_one_peer_are_told_apart_by_their_proof(daemon: Start) -> None:  # MS-3
    one, port = passive(daemon, families='ipv4 unicast; ipv6 unicast;', multi_session=True)
    with connected(port) as first, connected(port) as second:
        one.until(lambda: len(one.gatekeeper.proofs) == 2)
        for proof, family in zip(
            one.gatekeeper.proofs, ('ipv4-unicast', 'ipv6-unicast'), strict=True
        ):
            proof.grant(key_of(one, family))
        one.until(lambda: len(one.gatekeeper.is_up) == 2)
        by_family = {
            family: one.peer(family).proto.connection.io.getpeername()
            for family in ('ipv4-unicast', 'ipv6-unicast')
        }
        assert set(by_family.values()) == {first.getsockname(), second.getsockname()}
        assert not one.gatekeeper.is_gone


def test_connection_is_aborted_when_its_proof_is_unknown(daemon: Start) -> None:
    one, port = passive(daemon)
    with connected(port) as end:
        proof_of(one).grant('a session of before the reload')
        one.until(lambda: one.gatekeeper.is_gone)
        assert received(ready(end)) is None


def test_gated_address_is_held_wherever_it_connects_to(daemon: Start) -> None:
    """Upstream would answer with NOTIFICATION 6/3 where no neighbor has this local address."""
    port = free_port('127.0.0.9')
    other = neighbor(
        section='',
        peer='127.0.0.8',
        local='127.0.0.9',
        more=f'{PASSIVE}    listen {port};\n',
    )
    one, _ = passive(daemon, more=other)
    with connected(port, to='127.0.0.9') as end:
        proof = proof_of(one)
        assert str(proof.pair.local) == '127.0.0.9'
        proof.refuse('no MKT was negotiated for it')
        one.until(lambda: one.gatekeeper.is_gone)
        assert received(ready(end)) is None


def test_unknown_peer_gets_no_octet_when_any_is_protected(daemon: Start) -> None:
    one, port = passive(daemon)
    with connected(port, source='127.0.0.77') as end:
        one.until(lambda: received(end) is None)
        assert not one.gatekeeper.proofs


def test_strangers_are_turned_away_in_one_turn_when_many_wait(daemon: Start) -> None:
    """A neighbor's connection may stand behind them."""
    one, port = passive(daemon)
    with ExitStack() as stack:
        strangers = [stack.enter_context(connected(port, source='127.0.0.77')) for _ in range(8)]
        neighbors = stack.enter_context(connected(port))
        one.turn()
        assert [received(ready(end)) for end in strangers] == [None] * len(strangers)
        assert len(one.gatekeeper.proofs) == 1
        assert received(neighbors) == b''


def test_strangers_are_told_of_once_when_many_come(daemon: Start) -> None:
    """Each line of a timeline would be theirs to write."""
    one, port = passive(daemon)
    told: list[OperatorEvent] = []
    one.runtime.recorder.record = told.append  # type: ignore[method-assign, assignment]
    with ExitStack() as stack:
        strangers = [stack.enter_context(connected(port, source='127.0.0.77')) for _ in range(8)]
        one.turn()
        assert [received(ready(end)) for end in strangers] == [None] * len(strangers)
    (event,) = told
    assert '127.0.0.77' in str(event.details['cause'])


def test_unknown_peer_is_answered_as_upstream_when_none_is(daemon: Start) -> None:
    one, port = passive(daemon, section='')
    with connected(port, source='127.0.0.77') as end:
        octets = bytearray()

        def told() -> bool:
            octets.extend(received(end) or b'')
            return bool(octets)

        one.until(told)
        assert message_types(bytes(octets)) == [NOTIFICATION]


def test_open_neighbor_is_served_as_upstream_does(daemon: Start) -> None:
    port = free_port('127.0.0.9')
    other = neighbor(
        section='', peer='127.0.0.8', local='127.0.0.9', more=f'{PASSIVE}    listen {port};\n'
    )
    one, _ = passive(daemon, more=other)
    with connected(port, source='127.0.0.8', to='127.0.0.9') as end:
        one.until(lambda: one.peer('neighbor 127.0.0.8').stats['send-open'])
        assert message_types(received(ready(end)) or b'') == [1]
        assert not one.gatekeeper.proofs


def test_connection_is_gone_once_when_it_ends_before_its_proof(daemon: Start) -> None:
    one, port = passive(daemon)
    end = connected(port)
    proof = proof_of(one)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    end.close()
    link = one.runtime.links.get(proof.pair)
    assert link is not None
    ready(link.sock)  # the RST has come
    proof.grant(key_of(one))
    one.until(lambda: one.gatekeeper.is_gone)
    for _ in range(3):
        one.turn()
    assert one.gatekeeper.is_gone == [proof.pair]
    assert not one.gatekeeper.is_up


def test_gatekeeper_may_abort_it_first(daemon: Start) -> None:
    one, port = passive(daemon)
    with connected(port) as end:
        proof = proof_of(one)
        one.gatekeeper.command(Abort(proof.pair, 'no'))
        one.until(lambda: one.gatekeeper.is_gone)
        one.turn()
        assert received(ready(end)) is None
        assert one.gatekeeper.is_gone == [proof.pair]


def test_connection_waits_for_a_proof_up_to_a_limit(
    daemon: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('plugin.connections.incoming.CLOSE_UNPROVEN_AFTER', 0.1)
    one, port = passive(daemon)
    with connected(port) as end:
        proof = proof_of(one)
        one.until(lambda: one.gatekeeper.is_gone, sleep=300_000)
        assert proof.cancelled
        assert received(ready(end)) is None


def test_child_is_aborted_when_it_came_by_a_cookie(
    daemon: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, port = passive(daemon)
    records: list[OperatorEvent] = []
    monkeypatch.setattr(one.runtime.recorder, 'record', records.append)

    def refuse(installer: object, pair: object, sock: object) -> None:
        raise InstallError(Cause.REFUSED, NO_SYN)

    monkeypatch.setattr(LinuxInstaller, 'add_accepted', refuse)
    with connected(port) as end:
        one.until(lambda: records)
        with pytest.raises(ConnectionResetError):
            ready(end).recv(1)
    assert records[0].details['cause'] == NO_SYN
    assert not one.gatekeeper.proofs


def test_unproven_connections_are_few(daemon: Start) -> None:
    one, port = passive(daemon)
    with ExitStack() as stack:
        ends = [stack.enter_context(connected(port)) for _ in range(MOST_HELD + 2)]
        one.until(lambda: sum(received(end) is None for end in ends) == 2)
        assert len(one.gatekeeper.proofs) == MOST_HELD


def test_several_arrivals_wake_a_sleeping_reactor(daemon: Start) -> None:
    one, port = passive(daemon)
    one.turn()
    with connected(port), connected(port), connected(port):
        one.until(lambda: len(one.gatekeeper.proofs) == 3, sleep=300_000)


# --- a proven connection that BGP has no use for ------------------------------------------------


def established(one: Daemon) -> None:
    one.peer().fsm.change(FSM.ESTABLISHED)


def test_second_connection_is_told_when_a_session_is_up(daemon: Start) -> None:
    """Upstream drops the NOTIFICATION that it has made for this."""
    one, port = passive(daemon)
    with connected(port) as end:
        proof = proof_of(one)
        established(one)
        proof.grant(key_of(one))
        octets = bytearray()

        def told() -> bool:
            octets.extend(received(end) or b'')
            return bool(octets)

        one.until(told)
        assert octets[18:21] == bytes((NOTIFICATION, 6, 7))
        assert not one.gatekeeper.is_up
        end.close()
        one.until(lambda: one.gatekeeper.is_gone == [proof.pair])
        one.peer().fsm.change(FSM.IDLE)


def both_active(daemon: Start, ours: str, theirs: str, peer: socket.socket) -> tuple[Daemon, int]:
    port = free_port(ours)
    more = f'    connect {peer.getsockname()[1]};\n    listen {port};\n'
    one = daemon(neighbor(peer=theirs, local=ours, more=more))
    assert one.begin()
    return one, port


@pytest.mark.parametrize(
    ('ours', 'theirs', 'our_connection_stays'),
    [('127.0.0.5', '127.0.0.2', True), ('127.0.0.2', '127.0.0.5', False)],
)
def test_connection_from_the_higher_address_stays(
    daemon: Start, ours: str, theirs: str, our_connection_stays: bool
) -> None:
    with listener(theirs) as peer:
        one, port = both_active(daemon, ours, theirs, peer)
        one.until(lambda: one.gatekeeper.requests)
        one.gatekeeper.requests[0].grant()
        one.until(lambda: one.gatekeeper.proofs)
        outgoing = one.gatekeeper.proofs[0]
        with connected(port, source=theirs, to=ours) as end:
            incoming = proof_of(one, 2)
            incoming.grant(key_of(one))
            if our_connection_stays:
                one.until(lambda: received(end))
                outgoing.grant()
                one.until(lambda: one.gatekeeper.is_up == [outgoing.pair])
            else:
                one.until(lambda: one.gatekeeper.is_up == [incoming.pair])
                assert outgoing.cancelled
                assert one.gatekeeper.is_gone == [outgoing.pair]


def test_attempt_yields_to_the_peers_connection_before_tcp(
    daemon: Start,
) -> None:
    with listener('127.0.0.2') as peer:
        one, port = both_active(daemon, '127.0.0.5', '127.0.0.2', peer)
        one.until(lambda: one.gatekeeper.requests)
        asked = one.gatekeeper.requests[0]
        with connected(port, source='127.0.0.2', to='127.0.0.5'):
            incoming = proof_of(one)
            incoming.grant(key_of(one))
            one.until(lambda: one.gatekeeper.is_up == [incoming.pair])
            assert asked.cancelled
        assert accepted(peer) is None


def test_newer_connection_of_the_peer_replaces_its_older_one(daemon: Start) -> None:
    one, port = passive(daemon)
    with connected(port), ExitStack() as stack:
        first = proof_of(one)
        newer = stack.enter_context(connected(port))
        second = proof_of(one, 2)
        first.grant(key_of(one))
        one.until(lambda: one.peer().stats['send-open'])
        second.grant(key_of(one))
        one.until(lambda: one.gatekeeper.is_gone == [first.pair])
        assert one.peer().proto.connection.io.getpeername() == newer.getsockname()


# --- the OPEN is for the session that was negotiated --------------------------------------------


class ReceivedOpen:
    def __init__(self, families: list[Any] | None) -> None:
        self.capabilities = {} if families is None else {1: families}


V4, V6 = (AFI.ipv4, SAFI.unicast), (AFI.ipv6, SAFI.unicast)


@pytest.mark.parametrize(
    ('configured', 'spoken', 'taken'),
    [
        ('ipv4 unicast;', [V4], True),
        ('ipv4 unicast;', None, True),  # RFC 4271: IPv4 unicast
        ('ipv4 unicast;', [V4, V6], False),
        ('ipv4 unicast;', [V6], False),
        ('ipv6 unicast;', None, False),
        ('ipv4 unicast; ipv6 unicast;', [V4], False),
        ('ipv4 unicast; ipv6 unicast;', [V6, V4], True),
    ],
)
def test_open_of_other_families_is_refused(
    daemon: Start,
    monkeypatch: pytest.MonkeyPatch,
    configured: str,
    spoken: list[Any] | None,
    taken: bool,
) -> None:
    one, port = passive(daemon, families=configured)
    with connected(port):
        proof_of(one).grant(key_of(one))
        one.until(lambda: one.gatekeeper.is_up)
        proto = one.peer().proto
        monkeypatch.setattr(proto.negotiated, 'validate', lambda neighbor: None)
        monkeypatch.setattr(proto.negotiated, 'received_open', ReceivedOpen(spoken))
        if taken:
            proto.validate_open()
            return
        with pytest.raises(Notify) as caught:
            proto.validate_open()
        assert (caught.value.code, caught.value.subcode) == (2, 7)
