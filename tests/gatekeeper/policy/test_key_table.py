"""Rows of the crypto key table: RFC 7210's text, and its selection of a key."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from math import inf
from typing import Any

import pytest

from gatekeeper.policy.key_table import (
    KDF_AND_ALGID,
    Direction,
    KeyTableError,
    Row,
    row_of,
    select_to_accept,
    select_to_send,
    time_of,
    time_text,
)
from gatekeeper.policy.keychain import Lifetime
from keymaterial import Secret
from tcpao.mkt import ALGORITHMS

PEER, OTHER = ip_address('10.0.0.2'), ip_address('fd00::3')
NOON = time_of('20261123120000Z')
PAIR = '10.0.0.1:40001 -> 10.0.0.2:179'
ROW = Row(
    admin_key_name='core/key 1',
    recv_id=10,
    send_id=255,
    peers=(PEER, OTHER),
    algorithm=ALGORITHMS['hmac-sha-1-96'],
    tcp_options=True,
    send=Lifetime(NOON, NOON + 100),
    accept=Lifetime(NOON - 50, NOON + 200),
    key=Secret(b'a master key'),
)


# --- text -----------------------------------------------------------------------------------------


def test_row_has_the_fields_of_rfc_7210() -> None:
    assert ROW.to_json(with_key=True) == {
        'AdminKeyName': 'core/key 1',
        'LocalKeyName': '0a',
        'PeerKeyName': 'ff',
        'Peers': ['10.0.0.2', 'fd00::3'],
        'Interfaces': ['all'],
        'Protocol': 'TCP-AO',
        'ProtocolSpecificInfo': {'tcp-options': 'included'},
        'KDF': 'HMAC-SHA-1',
        'AlgID': 'HMAC-SHA-1-96',
        'Key': b'a master key'.hex(),
        'Direction': 'both',
        'SendLifetimeStart': '20261123120000Z',
        'SendLifeTimeEnd': '20261123120140Z',
        'AcceptLifeTimeStart': '20261123115910Z',
        'AcceptLifeTimeEnd': '20261123120320Z',
    }


def test_key_is_redacted_unless_asked_for() -> None:
    assert ROW.to_json()['Key'] is None


@pytest.mark.parametrize('name', ALGORITHMS)
@pytest.mark.parametrize('connection', [None, PAIR])
def test_row_is_the_same_when_read_back(name: str, connection: str | None) -> None:
    row = replace(ROW, algorithm=ALGORITHMS[name], tcp_options=False, connection=connection)
    assert row_of(row.to_json(with_key=True)) == row


def test_every_algorithm_has_its_own_kdf_and_algid() -> None:
    assert KDF_AND_ALGID.keys() == ALGORITHMS.keys()
    assert len(set(KDF_AND_ALGID.values())) == len(KDF_AND_ALGID)


@pytest.mark.parametrize('wall', [-inf, inf, 0.0, NOON])
def test_time_is_the_same_when_read_back(wall: float) -> None:
    assert time_of(time_text(wall)) == wall


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('LocalKeyName', '0A'),
        ('PeerKeyName', '1'),
        ('PeerKeyName', 7),
        ('Peers', ['nobody']),
        ('Protocol', 'OSPF'),
        ('Interfaces', ['eth0']),
        ('ProtocolSpecificInfo', {}),
        ('AlgID', 'AES-128-CMAC'),
        ('Key', 'ABCD'),
        ('Key', 'abc'),
        ('Direction', 'up'),
        ('SendLifetimeStart', '20261323120000Z'),
        ('AcceptLifeTimeEnd', '2026'),
        ('AdminKeyName', None),
    ],
)
def test_row_is_refused_when_a_field_is_wrong(name: str, value: Any) -> None:
    with pytest.raises(KeyTableError):
        row_of(ROW.to_json() | {name: value})


# --- selection (RFC 7210 3) -----------------------------------------------------------------------


def test_newest_send_lifetime_start_wins() -> None:
    newer = replace(ROW, admin_key_name='newer', send=Lifetime(NOON + 10, NOON + 100))
    for rows in ([ROW, newer], [newer, ROW]):
        assert select_to_send(rows, PEER, NOON + 9) == ROW
        assert select_to_send(rows, PEER, NOON + 10) == newer


@pytest.mark.parametrize(
    ('row', 'peer', 'wall'),
    [
        (ROW, ip_address('10.0.0.9'), NOON),
        (ROW, PEER, NOON - 1),
        (ROW, PEER, NOON + 100),
        (replace(ROW, direction=Direction.IN), PEER, NOON),
        (replace(ROW, direction=Direction.DISABLED), PEER, NOON),
    ],
)
def test_nothing_is_sent_when_a_condition_fails(row: Row, peer: Any, wall: float) -> None:
    assert select_to_send([row], peer, wall) is None


def test_key_is_accepted_before_and_after_it_is_sent() -> None:
    for wall in (NOON - 50, NOON + 199):
        assert select_to_accept([ROW], PEER, ROW.recv_id, wall) == ROW
    for wall in (NOON - 51, NOON + 200):
        assert select_to_accept([ROW], PEER, ROW.recv_id, wall) is None


def test_accepted_key_is_found_by_its_local_key_name() -> None:
    other = replace(ROW, recv_id=11, direction=Direction.IN)
    assert select_to_accept([ROW, other], PEER, 11, NOON) == other
    assert select_to_accept([ROW, other], PEER, ROW.send_id, NOON) is None
    assert select_to_accept([replace(ROW, direction=Direction.OUT)], PEER, 10, NOON) is None


def test_connection_decides_between_rows_of_one_peer() -> None:
    rows = [replace(ROW, connection=PAIR), replace(ROW, connection=PAIR.replace('40001', '40002'))]
    assert select_to_accept(rows, PEER, 10, NOON) is None
    assert select_to_accept(rows, PEER, 10, NOON, PAIR) == rows[0]
    assert select_to_send(rows, PEER, NOON, PAIR) == rows[0]
