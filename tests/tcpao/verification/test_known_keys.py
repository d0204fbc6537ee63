"""The list of master keys: what is accepted, and what a mistake is told."""

from __future__ import annotations

import json
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keymaterial import KeyFileError, Secret
from tcpao.verification.known_keys import KnownKeyError, parse_known_keys, read_known_keys

WHOLE = {
    'session': 'ipv4 unicast',
    'local': '10.0.0.1:40001',
    'remote': '[fd00::2]:179',
    'algorithm': 'hmac-sha-1-96',
    'tcp_options': True,
    'send_id': 1,
    'recv_id': 17,
    'master_key': '00ff',
}


def parse(*entries: Any) -> Any:
    return parse_known_keys(json.dumps(entries).encode())


def test_every_field_is_read() -> None:
    (key,) = parse(WHOLE)
    assert key.session == 'ipv4 unicast'
    assert key.local == (ip_address('10.0.0.1'), 40001)
    assert key.remote == (ip_address('fd00::2'), 179)
    assert key.algorithm.name == 'hmac-sha-1-96'
    assert key.tcp_options is True
    assert (key.send_id, key.recv_id) == (1, 17)
    assert key.master_key == Secret(b'\x00\xff')


def test_only_algorithm_and_master_key_must_be_there() -> None:
    (key,) = parse({'algorithm': 'kmac256-128', 'master_key': 'aa'})
    assert key.local is key.remote is key.tcp_options is key.send_id is key.session is None


def test_null_counts_as_missing() -> None:
    (key,) = parse({**WHOLE, 'session': None, 'recv_id': None})
    assert key.session is key.recv_id is None


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'algorithm': 'md5'}, "key 2: 'algorithm' must be one of hmac-sha-1-96, "),
        ({'algorithm': None}, "'algorithm' must be one of"),
        ({'algorithm': ['hmac-sha-1-96']}, "'algorithm' must be a string"),
        ({'master_key': 'secret!'}, "'master_key' must be hex digits"),
        ({'master_key': ''}, "'master_key' must be hex digits"),
        ({'master_key': 5}, "'master_key' must be hex digits"),
        ({'send_id': 256}, "'send_id' must be from 0 to 255"),
        ({'recv_id': True}, "'recv_id' must be a number"),
        ({'tcp_options': 1}, "'tcp_options' must be true or false"),
        ({'local': '10.0.0.1'}, "'local' must be like"),
        ({'local': 'fd00::1:179'}, "'local' must be like"),
        ({'remote': '10.0.0.1:65536'}, "'remote' must be like"),
        ({'remote': '[10.0.0.1]:1'}, "'remote' must be like"),
        ({'key': 1}, "unknown member 'key'"),
    ],
)
def test_mistake_is_refused_with_its_place(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(KnownKeyError, match=reason.replace('[', r'\[')) as caught:
        parse(WHOLE, {**WHOLE, **change})
    assert 'secret' not in str(caught.value)


@pytest.mark.parametrize('octets', [b'', b'{}', b'[1]', b'nonsense', b'[' * 100_000, b'\xff'])
def test_file_is_refused_when_it_is_no_list_of_objects(octets: bytes) -> None:
    with pytest.raises(KnownKeyError):
        parse_known_keys(octets)


@given(st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers()))
def test_any_file_is_read_or_refused(value: object) -> None:
    for entries in ([value], [{**WHOLE, 'local': value}], [{**WHOLE, 'algorithm': value}]):
        with suppress(KnownKeyError):
            parse(*entries)


def test_file_is_refused_when_others_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / 'keys.json'
    path.write_text(json.dumps([WHOLE]))
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match='chmod 0600'):
        read_known_keys(path)
    path.chmod(0o600)
    assert len(read_known_keys(path)) == 1


def test_file_with_thousands_of_keys_is_read(tmp_path: Path) -> None:
    path = tmp_path / 'keys.json'
    path.touch(mode=0o600)
    path.write_text(json.dumps([WHOLE] * 2000))
    assert len(read_known_keys(path)) == 2000
