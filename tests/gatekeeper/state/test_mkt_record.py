"""The life of an MKT: only the steps of the table."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from gatekeeper.state.mkt_record import ENDED, TRANSITIONS, MktRecord, MktState
from keymaterial import Secret
from tcpao.mkt import ALGORITHMS, Mkt, SocketPair

PAIR = SocketPair(ip_address('10.0.0.1'), 40001, ip_address('10.0.0.2'), 179)


def life() -> MktRecord:
    made = MktRecord('bgp/1', 'peer', 'session', PAIR, 1, True)
    made.mkt = Mkt('bgp/1', PAIR, ALGORITHMS['hmac-sha-1-96'], True, 1, 2, Secret(b'key'), 9.0)
    return made


@pytest.mark.parametrize('start', MktState)
@pytest.mark.parametrize('step', MktState)
def test_step_is_a_defect_when_the_table_lacks_it(start: MktState, step: MktState) -> None:
    one = life()
    one.state = start
    if step in TRANSITIONS[start]:
        one.move(step)
        assert one.state is step
    else:
        with pytest.raises(AssertionError):
            one.move(step)
        assert one.state is start


def test_every_state_leads_to_an_end() -> None:
    for state in MktState:
        assert state in ENDED or TRANSITIONS[state] & ENDED


def test_key_is_wiped_at_the_end() -> None:
    one = life()
    one.state = MktState.IN_USE
    one.end()
    assert one.key.master_key.wiped


def test_key_is_not_wiped_while_it_is_on_its_way_to_a_socket() -> None:
    one = life()
    one.state = MktState.NEGOTIATING
    one.end()
    assert not one.key.master_key.wiped


def test_ended_record_stays_as_it_ended() -> None:
    one = life()
    one.state = MktState.IN_USE
    one.end(MktState.REVOKED)
    one.end()
    assert one.state is MktState.REVOKED
