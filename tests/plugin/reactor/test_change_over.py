"""A reload that puts protection in, or takes it out, holds for a peer without a session too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from exabgp.bgp.fsm import FSM

from plugin.connections import outgoing
from tests.plugin.doubles import Daemon
from tests.plugin.peers import arrived, connected, free_port, listener, received
from tests.plugin.texts import SECTION, neighbor

Start = Callable[..., Daemon]
OTHER_PIN = SECTION.replace('psk-file', 'session ipv4 unicast { source-port 40009; } psk-file')


def passive(port: int, section: str = SECTION, **changes: Any) -> str:
    """r2 waits; a neighbor that stays protected keeps the daemon from being plain."""
    return neighbor(section=section, more=f'    passive;\n    listen {port};\n', **changes)


def active(port: int, section: str = SECTION) -> str:
    return neighbor(section=section, more=f'    connect {port};\n')


@pytest.mark.parametrize(
    ('before', 'after'),
    [(SECTION, ''), ('', SECTION), (SECTION, OTHER_PIN)],
    ids=['taken out', 'put in', 'changed'],
)
def test_idle_passive_peer_has_new_definition_at_once(
    before: str, after: str, daemon: Start
) -> None:
    """Upstream gives it no turn while no peer connects, and so would wait for ever."""
    port = free_port()
    one = daemon(passive(port, before))
    assert one.begin()
    wanted = passive(port, after.replace('source-port', 'peer-port'))
    assert one.reload(wanted)
    peer = one.peer()
    assert peer._neighbor is None
    assert peer._teardown is None
    assert (peer.neighbor['ikev2'] is None) == (after == '')


def test_unprotected_passive_peer_takes_a_plain_connection(daemon: Start) -> None:
    port = free_port()
    one = daemon(passive(port))
    assert one.begin()
    assert one.reload(passive(port, ''))
    with connected(port) as end:
        one.until(lambda: one.peer().stats['send-open'])
        assert received(end)
        assert not one.gatekeeper.proofs


def test_rolled_back_passive_peer_takes_a_plain_connection(daemon: Start) -> None:
    """Protection was put in, nothing came up, and it is taken out again."""
    port = free_port()
    one = daemon(passive(port, ''))
    assert one.begin()
    for section in (SECTION, ''):
        assert one.reload(passive(port, section))
        one.turn()
    with connected(port) as end:
        one.until(lambda: one.peer().stats['send-open'])
        assert received(end)


def test_waiting_attempt_is_plain_when_protection_is_taken_out(daemon: Start) -> None:
    with listener() as remote:
        one = daemon(active(remote.getsockname()[1]))
        assert one.begin()
        one.until(lambda: one.gatekeeper.requests)
        assert one.reload(active(remote.getsockname()[1], ''))
        assert one.gatekeeper.requests[0].cancelled
        one.until(lambda: one.peer().stats['send-open'])
        assert received(arrived(remote))


def test_peer_tries_at_once_after_a_reload_when_it_waits(daemon: Start) -> None:
    with listener() as remote:
        one = daemon(active(remote.getsockname()[1]))
        assert one.begin()
        for number in range(3):
            one.until(lambda number=number: len(one.gatekeeper.requests) > number)  # type: ignore[misc]
            one.gatekeeper.requests[-1].refuse('no')
            one.until(lambda: one.peer().generator is None)
        assert one.peer()._delay.remaining() > 0
        assert one.reload(active(remote.getsockname()[1]))
        assert one.peer()._delay.remaining() <= 0


def test_protected_session_that_is_up_ends_in_its_next_turn(daemon: Start) -> None:
    port = free_port()
    one = daemon(passive(port))
    assert one.begin()
    one.peer().fsm.change(FSM.ESTABLISHED)
    assert one.reload(passive(port, ''))
    assert one.peer()._teardown is not None


def test_attempt_begins_anew_when_peer_drops_its_syn(
    daemon: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer is still protected. No host answers on this address either: its queue is full."""
    monkeypatch.setattr(outgoing, 'PLAIN_ATTEMPT', 0.1)
    with listener() as remote:
        remote.listen(0)
        port = remote.getsockname()[1]
        with connected(port, to='127.0.0.2'):
            one = daemon(active(port))
            assert one.begin()
            assert one.reload(active(port, ''))
            one.until(lambda: one.peer().generator is not None)
            attempts: set[object] = set()

            def look() -> bool:
                frame = one.peer().generator.gi_frame
                assert frame is not None
                assert one.peer().proto is None
                attempts.update(_bound(port))
                return len(attempts) > 1

            one.until(look)


def _bound(port: int) -> set[str]:
    """Local ends of connections to this port that wait for a SYN-ACK (proc(5), /proc/net/tcp)."""
    found = set()
    with open('/proc/net/tcp') as table:
        for line in table.readlines()[1:]:
            _, local, remote, state, *_ = line.split()
            if state == '02' and remote.endswith(f':{port:04X}'):
                found.add(local)
    return found


STATIC = '    static {{ route {} next-hop 10.0.0.1; }}\n'


def routes_after_reload(daemon: Start, section: str) -> tuple[set[str], bool]:
    """A session is up, has sent 10.1.0.0/24, and the file has 10.2.0.0/24 instead. The prefixes
    that its RIB has to send, and whether the peer must still look at the new definition."""
    port = free_port()

    def text(prefix: str) -> str:
        return passive(port, section).replace('passive', STATIC.format(prefix) + 'passive')

    one = daemon(text('10.1.0.0/24'))
    assert one.begin()
    peer = one.peer()
    peer.fsm.change(FSM.ESTABLISHED)
    list(peer.neighbor.rib.outgoing.updates(False))
    assert one.reload(text('10.2.0.0/24'))
    queued = peer.neighbor.rib.outgoing.queued_changes()
    return {str(change.nlri).split()[0] for change in queued}, peer._neighbor is not None


def test_route_is_withdrawn_at_once_when_a_reload_takes_it_out(daemon: Start) -> None:
    assert routes_after_reload(daemon, SECTION) == ({'10.1.0.0/24', '10.2.0.0/24'}, False)


def test_routes_of_a_plain_neighbor_are_upstreams(daemon: Start) -> None:
    assert routes_after_reload(daemon, '') == ({'10.2.0.0/24'}, True)
