"""The rows of `show`: which of several failures explains why a session is down."""

from __future__ import annotations

from gatekeeper.reporting.explanations import Explanation
from gatekeeper.reporting.reasons import Reason
from gatekeeper.state.limits import TELLS_AGAIN
from gatekeeper.state.snapshot import snapshot
from ikev2.events import SendFailure
from tests.gatekeeper.world import R2, Router, World, open_both, policies

KEY = 'r1 ipv4 unicast'
REFUSED = Explanation('connecting', 'Connection refused', 'does the peer listen?', Reason.TCP)


def row(router: Router, world: World) -> dict[str, object]:
    rows = snapshot(router.core.state, world.now)
    return next(each for each in rows if each['session'] == 'ipv4 unicast')


def alone() -> tuple[World, Router]:
    world = World()
    return world, world.router('r1', policies('r1'), listens=False)


def running() -> tuple[World, Router]:
    world = World()
    world.router('r2', policies('r2'), listens=True)
    r1 = world.router('r1', policies('r1'), listens=False)
    open_both(r1)
    world.run(5)
    assert len(r1.sessions) == 2
    return world, r1


def test_row_has_what_the_adapter_tells_of_its_attempt() -> None:
    world, r1 = alone()
    r1.core.attempt_failed(KEY, REFUSED)
    shown = row(r1, world)
    assert shown['last_error'] == 'connecting: Connection refused'
    assert (shown['try_next'], shown['reason']) == ('does the peer listen?', 'tcp')


def test_row_keeps_the_cause_when_its_consequence_follows() -> None:
    world, r1 = alone()
    found = Explanation.of(Reason.CERTIFICATE_REFUSED, 'IKE_AUTH', 'it has expired')
    r1.core.state.refuse_peer(r1.peer, found)
    r1.core.attempt_failed(KEY, REFUSED)
    assert row(r1, world)['last_error'] == 'IKE_AUTH: it has expired'


def test_row_has_no_failure_while_the_session_is_proven() -> None:
    world, r1 = running()
    r1.core.attempt_failed(KEY, REFUSED)
    r1.core.session_ended(KEY, 'NOTIFICATION received (6/7): collision')
    shown = row(r1, world)
    assert shown['state'] == 'in use'
    assert shown['last_error'] is shown['notification'] is shown['reason'] is None


def test_row_has_the_notification_when_the_session_is_down() -> None:
    world, r1 = alone()
    r1.core.session_ended(KEY, 'NOTIFICATION received (2/2): bad peer AS')
    assert row(r1, world)['notification'] == 'NOTIFICATION received (2/2): bad peer AS'


def test_row_has_no_old_failure_when_configured_anew() -> None:
    world, r1 = alone()
    r1.core.attempt_failed(KEY, REFUSED)
    r1.core.configure(policies('r1'), world.now)
    assert row(r1, world)['last_error'] is None


def test_send_failed_is_told_at_once_and_once() -> None:
    world, r1 = alone()
    failure = SendFailure(R2, 'Network is unreachable', from_icmp=False)
    for _ in range(2):
        r1.core.send_failed(failure, world.now)
    assert row(r1, world)['reason'] == 'send-refused'
    r1.pump()
    assert len(r1.noted('refused')) == 1


def test_send_failed_is_told_again_while_it_lasts() -> None:
    world, r1 = alone()
    failure = SendFailure(R2, 'port unreachable', from_icmp=True, is_port_closed=True)
    for seconds in (0.0, TELLS_AGAIN / 2, TELLS_AGAIN):
        r1.core.send_failed(failure, world.now + seconds)
    assert row(r1, world)['reason'] == 'port-unreachable'
    r1.pump()
    assert len(r1.noted('refused')) == 2


def test_send_failed_is_shown_at_once_when_ike_worked_meanwhile() -> None:
    world, r1 = alone()
    failure = SendFailure(R2, 'port unreachable', from_icmp=True, is_port_closed=True)
    r1.core.send_failed(failure, world.now)
    r1.peer.trouble = None
    r1.core.send_failed(failure, world.now)
    assert row(r1, world)['reason'] == 'port-unreachable'


def test_send_failed_says_nothing_while_ike_works() -> None:
    """Any host can forge an ICMP error."""
    world, r1 = running()
    r1.core.send_failed(SendFailure(R2, 'port unreachable', from_icmp=True), world.now)
    assert r1.peer.trouble is None


def test_no_ike_answer_does_not_hide_that_sending_is_refused() -> None:
    world, r1 = alone()
    r1.core.send_failed(SendFailure(R2, 'Network is unreachable', from_icmp=False), world.now)
    open_both(r1)
    world.run(100)
    assert 'Network is unreachable' in str(row(r1, world)['last_error'])
