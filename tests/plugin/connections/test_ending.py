"""The end of protected connections: the NOTIFICATION is delivered, and no TIME-WAIT is left."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from threading import Timer
from typing import Any

import pytest
from exabgp.bgp.fsm import FSM
from exabgp.bgp.message import Notify

from gatekeeper.adapter.closing import WAIT_FOR_FIN
from gatekeeper.reporting.events import EventName, OperatorEvent
from tcpao.installer import Abort, Close, Done, Failed, Read
from tcpao.mkt import SocketPair
from tests.plugin.doubles import Daemon
from tests.plugin.peers import connected, free_port, ready, received
from tests.plugin.texts import neighbor

Start = Callable[..., Daemon]


class Session:
    """A daemon with one proven connection, and the peer's end of it."""

    def __init__(self, one: Daemon, end: socket.socket, pair: SocketPair) -> None:
        self.one = one
        self.end = end
        self.pair = pair
        self.octets = b''

    def told(self) -> bytes:
        """Return what the peer has received after the OPEN."""
        self.octets += received(self.end) or b''
        return self.octets[int.from_bytes(self.octets[16:18], 'big') :]

    def is_gone(self) -> bool:
        return self.one.gatekeeper.is_gone == [self.pair]


@contextmanager
def session(daemon: Start, more: str = '') -> Iterator[Session]:
    port = free_port()
    one = daemon(neighbor(more=f'    passive;\n    listen {port};\n{more}'))
    assert one.begin()
    with connected(port) as end:
        one.until(lambda: one.gatekeeper.proofs)
        proof = one.gatekeeper.proofs[0]
        proof.grant(one.peer().neighbor.name())
        one.until(lambda: one.peer().stats['send-open'])
        running = Session(one, end, proof.pair)
        one.until(lambda: running.told() or running.octets)
        yield running


def speak(one: Daemon, main: Any) -> None:
    """Have the peer in ESTABLISHED, with this in place of what it does there."""
    peer = one.peer()
    peer.fsm.change(FSM.ESTABLISHED)
    peer.generator = peer._run()
    peer._establish = lambda: iter(())
    peer._main = main


def until_told_to_stop(one: Daemon) -> Any:
    def main() -> Iterator[int]:
        while not one.peer()._teardown:
            yield 2
        raise Notify(6, one.peer()._teardown)

    return main


def test_close_is_cease_then_the_peers_fin_then_a_reset(daemon: Start) -> None:
    with session(daemon) as running:
        one = running.one
        speak(one, until_told_to_stop(one))
        one.turn()
        one.gatekeeper.command(Close(running.pair, 'its lifetime ends'))
        one.until(lambda: len(running.told()) > 20, sleep=300_000)
        assert running.told()[18:21] == bytes((3, 6, 4))
        one.until(lambda: one.peer().proto is None)
        assert not one.gatekeeper.is_gone  # its keys are needed until the end
        running.end.shutdown(socket.SHUT_WR)
        one.until(running.is_gone, sleep=300_000)
        with pytest.raises(ConnectionResetError):
            ready(running.end).recv(1)


def test_close_waits_two_seconds_when_the_peer_never_closes(
    daemon: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert WAIT_FOR_FIN == 2.0
    monkeypatch.setattr('gatekeeper.adapter.closing.WAIT_FOR_FIN', 0.2)
    with session(daemon) as running:
        one = running.one
        speak(one, until_told_to_stop(one))
        one.turn()
        begun = time.monotonic()  # the wait begins within the turn that ends BGP, not after it
        one.gatekeeper.command(Close(running.pair, 'its lifetime ends'))
        one.until(lambda: one.peer().proto is None, sleep=300_000)
        running.end.send(b'more')  # of no interest to any handler
        one.until(running.is_gone, sleep=300_000)
        assert time.monotonic() - begun >= 0.2


def test_close_before_established_sends_cease_too(daemon: Start) -> None:
    with session(daemon) as running:
        one = running.one
        assert one.peer().fsm != FSM.ESTABLISHED
        one.gatekeeper.command(Close(running.pair, 'revoked'))
        one.until(lambda: len(running.told()) > 20)
        assert running.told()[18:21] == bytes((3, 6, 4))
        running.end.close()
        one.until(running.is_gone)


def test_nothing_is_read_or_written_when_a_deadline_waits(daemon: Start) -> None:
    """After a pause: the reactor's thread comes before the gatekeeper's."""
    with session(daemon) as running:
        one = running.one
        connection = one.peer().proto.connection
        one.gatekeeper.settled = False
        running.end.send(bytes(19))
        ready(connection.io)
        assert next(connection._reader(19)) == b''
        assert next(connection.writer(b'said')) is False
        assert not running.told()
        one.gatekeeper.settled = True
        assert next(connection._reader(19)) == bytes(19)
        assert next(connection.writer(b'said')) is True


def test_octets_read_stay_when_a_deadline_comes_then(daemon: Start) -> None:
    """Upstream takes the last step for what was read: nothing at all was a message without a
    marker, which it answered with a NOTIFICATION 1/1."""
    with session(daemon) as running:
        one = running.one
        connection = one.peer().proto.connection
        running.end.send(bytes(19))
        ready(connection.io)
        for steps, last in ((connection._reader(19), bytes(19)), (connection.writer(b'x'), True)):
            one.gatekeeper.settled = True
            assert next(steps) == last
            one.gatekeeper.settled = False
            assert list(islice(steps, 1)) == []
        one.gatekeeper.settled = True


def test_close_sends_nothing_when_it_has_waited_past_a_deadline(daemon: Start) -> None:
    """The key may have ended in a pause meanwhile, and not all goes by the generators."""
    with session(daemon) as running:
        one = running.one
        assert one.peer().fsm != FSM.ESTABLISHED
        one.gatekeeper.settled = False
        one.gatekeeper.command(Close(running.pair, 'its lifetime ends'))
        one.until(running.is_gone)
        assert running.told() == b''
        assert received(ready(running.end)) is None


def test_abort_is_at_once_and_without_an_octet(daemon: Start) -> None:
    with session(daemon) as running:
        one = running.one
        speak(one, until_told_to_stop(one))
        one.turn()
        one.gatekeeper.command(Abort(running.pair, 'its lifetime is over'))
        one.wait()
        assert one.peer().proto is None
        assert one.peer().fsm == FSM.IDLE
        assert running.is_gone()
        assert running.told() == b''
        assert received(ready(running.end)) is None
        for _ in range(3):
            one.turn()
        assert running.is_gone()


def test_expired_hold_timer_closes_at_once(daemon: Start) -> None:
    def main() -> Iterator[int]:
        yield 2
        raise Notify(4, 0)

    with session(daemon) as running:
        speak(running.one, main)
        running.one.until(lambda: running.one.peer().proto is None)
        assert running.is_gone()


def test_connection_is_gone_once_when_the_peer_closes(daemon: Start) -> None:
    with session(daemon) as running:
        running.end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        running.end.close()
        running.one.until(lambda: running.one.peer().proto is None)
        assert running.is_gone()


def test_end_of_a_session_is_told_with_its_cause(daemon: Start) -> None:
    """Upstream says so in the close() that isn't called for our connections."""
    with session(daemon) as running:
        told: list[OperatorEvent] = []
        running.one.runtime.recorder.record = told.append  # type: ignore[method-assign, assignment]
        running.end.send(bytes((0xFF,)) * 16 + bytes((0, 21, 3, 6, 2)))
        running.one.until(lambda: running.one.peer().proto is None)
        (end,) = (record for record in told if record.event is EventName.END)
        assert end.session == 'ipv4 unicast'
        assert 'notification received (6,2)' in str(end.details['cause'])


def test_ended_connection_leaves_the_reactors_poll_set(daemon: Start) -> None:
    """Upstream leaves the closed descriptor there, and spins on it."""
    with session(daemon) as running:
        one = running.one
        descriptor = one.peer().socket()
        one.gatekeeper.command(Abort(running.pair, 'x'))
        one.wait()
        with pytest.raises(KeyError):
            one.reactor._poller.unregister(descriptor)


def test_new_connection_replaces_a_parting_one_of_its_ports(daemon: Start) -> None:
    with session(daemon) as running:
        one = running.one
        one.gatekeeper.command(Close(running.pair, 'revoked'))
        one.until(lambda: one.peer().proto is None)
        link = one.runtime.links.get(running.pair)
        assert link is not None
        sock = link.sock.dup()
        one.runtime.links.add(running.pair, sock)
        assert running.is_gone()
        assert one.runtime.links.get(running.pair) is not link


def test_daemons_end_is_cease_then_the_peers_fin_then_a_reset(daemon: Start) -> None:
    with session(daemon) as running:
        one = running.one
        Timer(0.1, running.end.shutdown, (socket.SHUT_WR,)).start()
        one.reactor.shutdown()
        assert running.told()[18:21] == bytes((3, 6, 2))
        assert running.is_gone()
        assert one.gatekeeper.log.count('stop') == 1
        assert received(ready(running.end)) is None
        one.runtime.stop()
        assert one.gatekeeper.log.count('stop') == 1


def test_daemons_end_waits_two_seconds_when_peers_never_close(
    daemon: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('gatekeeper.adapter.closing.WAIT_FOR_FIN', 0.2)
    with session(daemon) as running:
        begun = time.monotonic()
        running.one.reactor.shutdown()
        assert time.monotonic() - begun >= 0.2
        assert running.is_gone()


def test_daemons_end_is_silent_when_graceful_restart_is_on(daemon: Start) -> None:
    with session(daemon, '    capability { graceful-restart 60; }\n') as running:
        running.one.reactor.shutdown()
        assert running.told() == b''
        assert running.is_gone()


# --- commands and their events ------------------------------------------------------------------


def test_commands_are_run_and_answered_in_the_reactors_turn(daemon: Start) -> None:
    with session(daemon) as running:
        one = running.one
        command = Read(running.pair)
        one.gatekeeper.command(command)
        one.wait(300_000)
        (event,) = one.gatekeeper.posted
        # This kernel may have no TCP-AO: then there is nothing to read.
        assert not isinstance(event, Done)


def test_command_fails_with_an_answer_when_connection_is_gone(daemon: Start) -> None:
    with session(daemon) as running:
        one = running.one
        one.gatekeeper.command(Abort(running.pair, 'x'))
        one.wait()
        command = Read(running.pair)
        one.gatekeeper.command(command)
        one.gatekeeper.command(Close(running.pair, 'x'))
        one.wait()
        assert isinstance(one.gatekeeper.posted[-1], Failed)
        assert one.gatekeeper.posted[-1].command == command
        assert running.is_gone()


def test_gated_sessions_stay_down_when_the_gatekeeper_dies(
    daemon: Start,
) -> None:
    with session(daemon) as running:
        one = running.one
        one.gatekeeper._calls.alive = False
        one.wait()
        assert received(ready(running.end)) in (None, running.octets)
        assert one.peer().proto is None
        assert not list(one.runtime.links)


def test_our_defect_closes_gated_sessions_and_not_the_daemon(
    daemon: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    with session(daemon) as running:
        one = running.one

        def broken() -> list[Any]:
            raise RuntimeError('broken')

        monkeypatch.setattr(one.gatekeeper, 'take_commands', broken)
        one.gatekeeper.wake()
        one.turn()
        assert running.is_gone()
        one.turn()
