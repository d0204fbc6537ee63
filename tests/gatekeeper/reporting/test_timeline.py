"""The daemon's log: what an unknown host claims doesn't silence what a neighbor's failure says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gatekeeper.reporting.events import EventName, OperatorEvent
from gatekeeper.reporting.explanations import explain_ike_failure
from gatekeeper.reporting.timeline import Level, Recorder
from ikev2.authentication.identity import Identity
from ikev2.events import IkeSaFailed
from tcpao.mkt import SocketPair
from tests.gatekeeper.world import R1, R2, Router, World, policies
from tests.ikev2.bench import Bench, peer_a, peer_b, psk

NEIGHBOR = '10.0.0.1'


class Lines(Recorder):
    """Keeps the lines of the log."""

    def __init__(self) -> None:
        super().__init__('r2')
        self.lines: list[str] = []

    def log(self, level: Level, line: Callable[[], str]) -> None:
        self.lines.append(line())


def failures(bench: Bench, identity: str, secret: str) -> list[IkeSaFailed]:
    """B's, after a host at A's address has tried with this identity and pre-shared key."""
    before = len(bench.b.all(IkeSaFailed))
    peer = replace(peer_b(psk(secret), psk(secret)), local_id=Identity.parse('fqdn', identity))
    bench.a.endpoint.set_peer(peer, bench.now)
    bench.a.endpoint.connect('b', bench.now)
    bench.run(3)
    return bench.b.all(IkeSaFailed)[before:]


def refused(failure: IkeSaFailed) -> OperatorEvent:
    trouble = explain_ike_failure(failure)
    details = {'step': trouble.step, 'hint': trouble.hint, 'neighbor': NEIGHBOR}
    told = details | {'cause': str(failure.cause), 'text': failure.text}
    return OperatorEvent(0.0, 'r2', None, EventName.REFUSED, dict(told))


def test_log_tells_a_wrong_key_when_identities_were_invented() -> None:
    bench = Bench(a=peer_a())
    recorder = Lines()
    for number in range(20):
        (failure,) = failures(bench, f'nobody{number}.example', 'a guess')
        recorder.record(refused(failure))
    invented = len(recorder.lines)
    assert 1 <= invented < 5
    (failure,) = failures(bench, 'a.example', 'the true peer with a wrong key')
    recorder.record(refused(failure))
    assert len(recorder.lines) == invented + 1
    assert 'pre-shared keys differ' in recorder.lines[-1]


def refusals(router: Router) -> list[OperatorEvent]:
    return [
        OperatorEvent(0.0, 'r2', note.session, note.event, note.details)
        for note in router.noted('refused')
    ]


def test_log_has_no_failure_when_both_open_and_one_listens() -> None:
    world = World()
    wanted = policies('r2', connect_port=179, source_port=None, peer_port=None)
    r2 = world.router('r2', wanted, listens=True)
    r1 = world.router('r1', policies('r1', source_port=None), listens=False)
    world.run(2)
    r2.open('r2 ipv4 unicast', SocketPair(R2, 41001, R1, 179))
    world.run(2)
    r1.open('r1 ipv4 unicast', SocketPair(R1, 40001, R2, 179))
    world.run(5)
    assert r1.sessions
    for router in (r1, r2):
        recorder = Lines()
        events = refusals(router)
        assert events, 'the timeline has it'
        for event in events:
            recorder.record(event)
        assert all(' reason=' in line for line in recorder.lines), 'details only'
