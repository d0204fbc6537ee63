"""The demo's checks: they pass on evidence that is right, and each notices what it is for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gatekeeper.reporting.events import EventName
from ikev2.constants import ExchangeType
from lab.demo import checks
from lab.demo.evidence import Evidence
from lab.demo.places import PORTS
from tcpao.verification.segment import Flag
from tests.lab.demo_evidence import (
    CLOSED,
    IKE,
    REKEY,
    SYN,
    Demo,
    from_r2,
    good,
    ike,
)
from tests.tcpao.wire import Talk

Spoil = Callable[[Demo], object]
FIRST, SECOND = PORTS


def test_good_evidence_passes_every_check(tmp_path: Path) -> None:
    outcomes = list(checks.judge(good().leave(tmp_path)))
    assert [text for passed, text in outcomes if not passed] == []
    assert len(outcomes) == len(checks.CHECKS)


def test_evidence_fails_when_it_lacks_a_file(tmp_path: Path) -> None:
    folder = good().leave(tmp_path)
    (folder / 'keys.json').unlink()
    ((passed, text),) = checks.judge(folder)
    assert not passed
    assert 'incomplete' in text


def capture_misses_the_first_ike_message(demo: Demo) -> None:
    del demo.wire[0]


def capture_began_late(demo: Demo) -> None:
    demo.change(EventName.END, captured_from=IKE + 0.5)


def no_ike_auth(demo: Demo) -> None:
    del demo.wire[2:4]


def create_child_sa_is_not_answered(demo: Demo) -> None:
    del demo.wire[7]


def create_child_sa_after_the_syn(demo: Demo) -> None:
    late = ike(ExchangeType.CREATE_CHILD_SA, 3, response=True, source='10.0.0.2')
    demo.wire[7] = (SYN + 1, late)


def unsigned_segment(demo: Demo) -> None:
    demo.wire.append((REKEY, from_r2(PORTS[FIRST], Flag.ACK)))


def mac_with_a_wrong_bit(demo: Demo) -> None:
    time, packet = demo.wire[-1]
    demo.wire[-1] = (time, packet[:-1] + bytes((packet[-1] ^ 1,)))


def key_table_lacks_a_key(demo: Demo) -> None:
    demo.keys.pop()


def one_master_key_for_both_sessions(demo: Demo) -> None:
    demo.keys[-1]['master_key'] = demo.keys[-2]['master_key']


def the_other_algorithm(demo: Demo) -> None:
    for key in demo.keys:
        key['session'] = SECOND if key['session'] == FIRST else FIRST


def another_backend_on_one_router(demo: Demo) -> None:
    installed = [event for event in demo.events if event.event is EventName.MKT_INSTALLED]
    installed[-1].details['backend'] = 'kernel'


def a_backend_without_a_name(demo: Demo) -> None:
    for event in demo.events:
        event.details.pop('backend', None)


def nothing_installed_on_one_router(demo: Demo) -> None:
    demo.drop(EventName.MKT_INSTALLED, 'r2', FIRST)


def no_key_removed_on_one_router(demo: Demo) -> None:
    demo.drop(EventName.MKT_REMOVED, 'r1', SECOND)


def rnext_never_moved(demo: Demo) -> None:
    demo.drop(EventName.RNEXT_MOVED, 'r2', FIRST)


def no_new_key_on_the_wire(demo: Demo) -> None:
    del demo.wire[-2:]


def route_missing_in_one_sample(demo: Demo) -> None:
    demo.change(EventName.ROUTE, present=129)


def samples_begin_after_the_rekey(demo: Demo) -> None:
    demo.change(EventName.ROUTE, first=REKEY + 1)


def nothing_sampled_for_a_while(demo: Demo) -> None:
    demo.change(EventName.ROUTE, longest_gap=3.0)


def uptime_was_reset(demo: Demo) -> None:
    demo.change(EventName.ROUTE, resets=1)


def uptime_is_too_short(demo: Demo) -> None:
    demo.change(EventName.ROUTE, uptime=1.0)


def an_impostor_got_in(demo: Demo) -> None:
    demo.events[-5].details['refused'] = False
    assert 'impostor' in demo.events[-5].details


def an_impostor_did_not_show_up(demo: Demo) -> None:
    del demo.events[-5]


def a_notification_for_an_impostor(demo: Demo) -> None:
    demo.refused.append((6.0, from_r2(50000, Flag.ACK, bytes(21))))


def an_unsigned_segment_to_a_stolen_port(demo: Demo) -> None:
    demo.refused.append((CLOSED + 0.7, from_r2(PORTS[FIRST], Flag.ACK, bytes(19))))


def a_key_for_an_impostor(demo: Demo) -> None:
    answer = ike(ExchangeType.CREATE_CHILD_SA, 2, response=True, source='10.0.0.2', spi=b'\x03')
    demo.refused.append((CLOSED + 0.7, answer))


def a_forged_syn_is_answered(demo: Demo) -> None:
    demo.refused.append((CLOSED + 0.7, from_r2(41002, Flag.SYN | Flag.ACK)))


def no_forged_syn(demo: Demo) -> None:
    del demo.refused[-2]


def an_address_stolen_too_early(demo: Demo) -> None:
    demo.refused = [(time - 3, packet) for time, packet in demo.refused]


def a_master_key_in_a_log(demo: Demo) -> None:
    demo.logs['r2.log'] = str(demo.keys[0]['master_key']).upper().encode()


def a_master_key_as_octets(demo: Demo) -> None:
    demo.logs['r2.log'] = bytes.fromhex(str(demo.keys[0]['master_key']))


@pytest.mark.parametrize(
    ('check', 'spoil'),
    [
        (checks.begins_before_ike, capture_misses_the_first_ike_message),
        (checks.begins_before_ike, capture_began_late),
        (checks.ike_before_syn, no_ike_auth),
        (checks.ike_before_syn, create_child_sa_is_not_answered),
        (checks.ike_before_syn, create_child_sa_after_the_syn),
        (checks.every_segment_is_signed, unsigned_segment),
        (checks.macs_verify, unsigned_segment),
        (checks.macs_verify, mac_with_a_wrong_bit),
        (checks.macs_verify, key_table_lacks_a_key),
        (checks.macs_verify_with_scapy, mac_with_a_wrong_bit),
        (checks.each_session_has_its_own_key, one_master_key_for_both_sessions),
        (checks.each_session_has_its_own_key, the_other_algorithm),
        (checks.one_backend_protects, another_backend_on_one_router),
        (checks.one_backend_protects, a_backend_without_a_name),
        (checks.one_backend_protects, nothing_installed_on_one_router),
        (checks.keys_are_replaced, no_key_removed_on_one_router),
        (checks.keys_are_replaced, rnext_never_moved),
        (checks.keys_are_replaced, no_new_key_on_the_wire),
        (checks.routes_stay, route_missing_in_one_sample),
        (checks.routes_stay, samples_begin_after_the_rekey),
        (checks.routes_stay, nothing_sampled_for_a_while),
        (checks.sessions_stay, uptime_was_reset),
        (checks.sessions_stay, uptime_is_too_short),
        (checks.impostors_are_refused, an_impostor_got_in),
        (checks.impostors_are_refused, an_impostor_did_not_show_up),
        (checks.impostors_hear_no_bgp, a_notification_for_an_impostor),
        (checks.impostors_hear_no_bgp, an_unsigned_segment_to_a_stolen_port),
        (checks.impostors_hear_no_bgp, a_key_for_an_impostor),
        (checks.forged_syns_get_no_answer, a_forged_syn_is_answered),
        (checks.forged_syns_get_no_answer, no_forged_syn),
        (checks.wire_is_closed_first, an_address_stolen_too_early),
        (checks.nothing_secret_is_told, a_master_key_in_a_log),
        (checks.nothing_secret_is_told, a_master_key_as_octets),
    ],
)
def test_each_check_notices_its_fault(check: checks.Check, spoil: Spoil, tmp_path: Path) -> None:
    demo = good()
    spoil(demo)
    evidence = Evidence.read(demo.leave(tmp_path))
    with pytest.raises(AssertionError):
        check(evidence)


def test_router_segments_on_a_stolen_path_are_not_the_impostors(
    tmp_path: Path,
) -> None:
    demo = good()
    rekey = ike(ExchangeType.CREATE_CHILD_SA, 0, response=False, source='10.0.0.2')
    keepalive = Talk(client_port=PORTS[FIRST]).segment(False, Flag.ACK, bytes(19))
    demo.refused += [(CLOSED + 0.7, rekey), (CLOSED + 0.8, keepalive)]
    checks.impostors_hear_no_bgp(Evidence.read(demo.leave(tmp_path)))


def test_scapy_is_asked_about_every_segment_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own verification does not make scapy's verdict."""
    evidence = Evidence.read(good().leave(tmp_path))
    monkeypatch.setattr('scapy.contrib.tcpao.calc_tcpao_mac', lambda *arguments, **named: bytes(12))
    with pytest.raises(AssertionError, match='scapy finds 0'):
        checks.macs_verify_with_scapy(evidence)
