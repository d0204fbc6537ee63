"""strongSwan as peer: the life of an IKE SA, whichever end begins what."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ikev2.constants import NotifyType
from ikev2.events import Cause, IkeSaDown, IkeSaUp, RpSaFailed
from ikev2.limits import Limits
from ikev2.sa.transitions import State
from tests.ikev2.interop.driver import Driver
from tests.ikev2.interop.pair import ROLES, RP_SA, Pair, Setup
from tests.ikev2.interop.proofs import both_certified, shared
from tests.ikev2.interop.swan import Swan
from tests.ikev2.interop.wire import Wire, wired

pytestmark = pytest.mark.native

both_roles = pytest.mark.parametrize('role', ROLES)

PSK = Setup(shared(), shared())


def with_options(options: str) -> Setup:
    return Setup(shared(), shared(), options=options)


def replaced(pair: Pair, driver: Driver, before: str) -> None:
    """Another IKE SA than before, the same at both ends, and it works."""
    came = driver.run_until(lambda: len(driver.sas) == 1 and driver.only_sa().spis != before)
    assert came, pair.other.log_text()
    assert driver.proves_alive()
    # Who began the rekey is the new one's initiator.
    pair.same_at_both_ends()
    assert not driver.all(IkeSaDown)


@both_roles
def test_strongswan_accepts_our_rekey(pair: Pair, role: str) -> None:
    with pair.row(role, 'IKE SA rekey', 'we begin'):
        driver = pair.bring_up(PSK, role)
        before = driver.only_sa().spis
        driver.endpoint.rekey_ike_sa('theirs', driver.now())
        replaced(pair, driver, before)


@both_roles
def test_strongswan_rekey_is_accepted(pair: Pair, swan: Swan, role: str) -> None:
    with pair.row(role, 'IKE SA rekey', 'it begins'):
        driver = pair.bring_up(PSK, role)
        before = driver.only_sa().spis
        swan.start('--rekey', '--ike', 'ours').wait(30)
        replaced(pair, driver, before)


@both_roles
def test_strongswan_accepts_our_reauthentication(pair: Pair, role: str) -> None:
    with pair.row(role, 'reauthentication', 'we begin, make before break'):
        driver = pair.bring_up(PSK, role)
        before = driver.only_sa().spis
        driver.endpoint.reauthenticate('theirs', driver.now())
        replaced(pair, driver, before)


@both_roles
@pytest.mark.parametrize('make_before_break', ['yes', 'no'])
def test_strongswan_reauthentication_is_accepted(
    pair: Pair, swan: Swan, role: str, make_before_break: str
) -> None:
    how = 'make before break' if make_before_break == 'yes' else 'break before make'
    with (
        swan.settings(f'make_before_break = {make_before_break}'),
        pair.row(role, 'reauthentication', f'it begins, {how}') as row,
    ):
        driver = pair.bring_up(PSK, role)
        swan.start('--rekey', '--ike', 'ours', '--reauth').wait(30)
        if make_before_break == 'no':
            assert pair.wait_for(IkeSaDown).cause == Cause.DELETED
        reason = 'unable to reauthenticate IKE_SA, no CHILD_SA to recreate'
        driver.run_until(lambda: len(driver.all(IkeSaUp)) > 1 or reason in swan.log_text(), 2)
        if len(driver.all(IkeSaUp)) == 1:
            swan.wait_until(lambda: reason in swan.log_text())
            row.unsupported(reason)


@both_roles
def test_strongswan_accepts_our_delete(pair: Pair, swan: Swan, role: str) -> None:
    with pair.row(role, 'Delete', 'we begin'):
        driver = pair.bring_up(PSK, role)
        driver.endpoint.remove_peer('theirs', driver.now())
        assert driver.run_until(lambda: 'received DELETE for IKE_SA' in swan.log_text())
        assert not swan.sas()


@both_roles
def test_strongswan_delete_is_accepted(pair: Pair, swan: Swan, role: str) -> None:
    with pair.row(role, 'Delete', 'it begins'):
        driver = pair.bring_up(PSK, role)
        command = swan.start('--terminate', '--ike', 'ours', '--timeout', '20')
        assert pair.wait_for(IkeSaDown).cause == Cause.DELETED
        assert driver.run_until_exit(command)
        assert command.returncode == 0
        assert not swan.sas()


@both_roles
def test_strongswan_answers_our_liveness_check(pair: Pair, role: str) -> None:
    with pair.row(role, 'liveness', 'we ask'):
        driver = pair.bring_up(PSK, role)
        assert driver.proves_alive()
        assert 'parsed INFORMATIONAL request' in pair.other.log_text()


@both_roles
def test_strongswan_liveness_check_is_answered(pair: Pair, role: str) -> None:
    with pair.row(role, 'liveness (DPD)', 'it asks'):
        driver = pair.bring_up(with_options('dpd_delay = 1s'), role)
        assert driver.run_until(lambda: len(driver.messages('INFORMATIONAL')) >= 2)
        log = pair.other.log_text()
        assert 'sending DPD request' in log
        assert driver.run_until(lambda: 'parsed INFORMATIONAL response' in pair.other.log_text())
        pair.same_at_both_ends()


@both_roles
def test_liveness_check_fails_when_strongswan_is_gone(pair: Pair, role: str) -> None:
    with pair.row(role, 'liveness', 'we notice that it is gone'):
        driver = pair.bring_up(Setup(shared(), shared(), limits=Limits(give_up=3.0)), role)
        with pair.wire.cut():
            driver.endpoint.check_liveness('theirs', driver.now())
            assert pair.wait_for(IkeSaDown).cause == Cause.NO_ANSWER


@both_roles
def test_strongswan_notices_when_we_are_gone(pair: Pair, swan: Swan, role: str) -> None:
    with (
        swan.settings('retransmit_tries = 3'),
        pair.row(role, 'liveness (DPD)', 'it notices that we are gone'),
    ):
        driver = pair.bring_up(with_options('dpd_delay = 1s'), role)
        driver.udp.close()
        swan.wait_until(lambda: not swan.sas())
        assert 'giving up after' in swan.log_text()


@both_roles
def test_strongswan_agrees_when_two_of_ten_datagrams_are_lost(
    pair: Pair, swan: Swan, role: str
) -> None:
    ours, theirs = both_certified('rsa', 1)
    with (
        pair.row(role, '20 % loss', 'IKE_SA_INIT, fragmented IKE_AUTH, rekeys by both, liveness'),
        pair.wire.lossy(),
    ):
        driver = pair.bring_up(Setup(ours, theirs), role)
        spis = driver.only_sa().spis
        for _ in range(2):
            driver.endpoint.rekey_ike_sa('theirs', driver.now())
            spis = successor(pair, driver, spis)
            swan.start('--rekey', '--ike', 'ours').wait(30)
            spis = successor(pair, driver, spis)
        # Whose turn it is to lose something differs; that each way lost some, the wire has seen.
        assert re.search(r'retransmit \d of request|received retransmit', swan.log_text())


def successor(pair: Pair, driver: Driver, before: str) -> str:
    """One more came, which works at both ends; its SPIs.

    The one before may still be there at ours: the answer to our Delete was lost, and the peer
    doesn't know that IKE SA any more when we ask again.
    """

    def came() -> list[str]:
        up = [sa for sa in driver.sas if sa.state == State.ESTABLISHED]
        return [sa.spis for sa in up if sa.spis != before]

    assert driver.run_until(lambda: bool(came())), pair.other.log_text()
    assert driver.proves_alive()
    (spis,) = came()
    assert [sa.spis for sa in pair.other.sas()] == [spis]
    return spis


@both_roles
def test_strongswan_makes_childless_ike_sa(pair: Pair, role: str) -> None:
    with pair.row(role, 'childless (RFC 6023)', 'childless = force'):
        pair.bring_up(with_options('childless = force'), role)
        assert 'N(CHDLESS_SUP)' in pair.other.log_text()


@both_roles
def test_strongswan_child_is_refused(pair: Pair, swan: Swan, role: str) -> None:
    where = 'IKE_AUTH' if role == 'responder' else 'CREATE_CHILD_SA'
    with pair.row(role, f'ESP in {where}', 'refused by us, the IKE SA stays up'):
        driver = pair.configure(with_options('childless = allow'))
        if role == 'initiator':
            driver.endpoint.connect('theirs', driver.now())
            pair.wait_for(IkeSaUp)
        command = swan.initiate('--child', 'tcp')
        assert driver.run_until_exit(command)
        assert command.returncode
        assert 'NO_PROPOSAL_CHOSEN' in swan.log_text()
        assert driver.proves_alive()
        pair.same_at_both_ends()


def test_strongswan_initiates_ike_sa_when_it_wants_a_child(pair: Pair) -> None:
    with pair.row('initiator', 'childless (RFC 6023)', 'childless = never') as row:
        failed = pair.refused(with_options('childless = never'), 'initiator')
        assert failed.step == 'IKE_SA_INIT'
        row.unsupported(f'it is configured so: {failed.text}')


@both_roles
def test_rp_sa_is_not_requested_when_peer_is_strongswan(pair: Pair, role: str) -> None:
    with pair.row(role, 'RP SA', 'not asked for: it lacks our Vendor ID'):
        driver = pair.bring_up(PSK, role)
        driver.endpoint.request('theirs', RP_SA, driver.now())
        failed = pair.wait_for(RpSaFailed)
        assert (failed.cause, failed.notify) == (Cause.NO_PROFILE, None)
        assert not driver.messages('CREATE_CHILD_SA')
        pair.same_at_both_ends()


@both_roles
def test_strongswan_refuses_rp_sa_and_keeps_ike_sa(pair: Pair, role: str) -> None:
    with pair.row(role, 'RP SA', 'forced: it refuses, the IKE SA stays up'):
        driver = pair.bring_up(PSK, role)
        driver.endpoint.request('theirs', RP_SA, driver.now(), without_profile=True)
        failed = pair.wait_for(RpSaFailed)
        assert failed.cause == Cause.NO_PROFILE
        assert failed.notify == NotifyType.NO_PROPOSAL_CHOSEN
        assert 'no acceptable proposal found' in pair.other.log_text()
        assert driver.proves_alive()
        pair.same_at_both_ends()


@both_roles
@pytest.mark.parametrize('mobike', ['yes', 'no'])
def test_strongswan_agrees_on_other_ports(pair: Pair, role: str, mobike: str) -> None:
    moved = role == 'responder' and mobike == 'yes'
    port = 4500 if moved else 500
    with pair.row(role, f'MOBIKE {mobike}', f'IKE_AUTH on port {port}'):
        driver = pair.bring_up(with_options(f'mobike = {mobike}'), role)
        path = driver.only_sa().path
        assert (path.local_port, path.remote_port) == (port, port)
        *_, last = re.findall(r'packet: from .*', pair.other.log_text())
        assert last.count(f'[{port}]') == 2


def test_strongswan_returns_our_cookie(pair: Pair) -> None:
    with pair.row('responder', 'COOKIE', 'we demand it'):
        setup = Setup(shared(), shared(), limits=Limits(half_open_before_cookies=0))
        driver = pair.bring_up(setup, 'responder')
        demand, request, _ = driver.different_messages('IKE_SA_INIT')
        assert demand == 'N(COOKIE)'
        assert request.startswith('N(COOKIE), SA(IKE)')
        assert 'parsed IKE_SA_INIT response 0 [ N(COOKIE) ]' in pair.other.log_text()


def test_strongswan_cookie_is_returned(tmp_path: Path) -> None:
    with wired() as wire, closing_swan(wire, tmp_path, 'cookie_threshold = 1') as swan:
        pair = Pair(wire, swan)
        with pair.row('initiator', 'COOKIE', 'it demands it'):
            # Another host has to be there that looks like an attacker.
            driver = pair.configure(PSK)
            driver.half_open()
            swan.wait_until(lambda: '1 half-open' in swan.control('--stats'))
            driver = pair.renew(PSK)
            pair.connect(PSK, 'initiator')
            first, demand, second, answer = driver.different_messages('IKE_SA_INIT')
            assert demand == 'N(COOKIE)'
            assert second == f'N(COOKIE), {first}'
            assert answer.startswith('SA(IKE), KE, Nonce')
        pair.close()


@contextmanager
def closing_swan(wire: Wire, folder: Path, settings: str) -> Iterator[Swan]:
    swan = Swan(wire.theirs, folder, settings)
    try:
        yield swan
    finally:
        swan.stop()
