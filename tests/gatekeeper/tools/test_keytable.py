"""`gatekeeper keytable`: tables between files, and what becomes of a row's key."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from gatekeeper.policy.key_table import Direction, Row
from gatekeeper.policy.keychain import Lifetime
from gatekeeper.tools.cli import main
from keymaterial import Secret
from tcpao.mkt import ALGORITHMS

PEER = ip_address('10.0.0.2')
LOCAL_END, REMOTE_END = '10.0.0.1:40001', '10.0.0.2:179'
MANUAL_KEY, NEGOTIATED_KEY = b'manual master key', b'negotiated master key'
MANUAL = Row(
    admin_key_name='core/key 1',
    recv_id=11,
    send_id=10,
    peers=(PEER,),
    algorithm=ALGORITHMS['hmac-sha-1-96'],
    tcp_options=True,
    send=Lifetime(1000.0, 2000.0),
    accept=Lifetime(900.0, 2100.0),
    key=Secret(MANUAL_KEY),
)
NEGOTIATED = replace(
    MANUAL,
    admin_key_name='bgp/ipv4 unicast/1',
    send_id=1,
    recv_id=2,
    connection=f'{LOCAL_END} -> {REMOTE_END}',
)


def write(path: Path, *rows: Row, with_key: bool = False, mode: int = 0o600) -> str:
    path.touch(mode)
    path.chmod(mode)
    path.write_text(json.dumps([row.to_json(with_key=with_key) for row in rows]))
    return str(path)


def run(*words: str) -> int:
    return main(['keytable', *words])


# --- show and select ------------------------------------------------------------------------------


def test_show_prints_rows_without_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run('show', write(tmp_path / 'table', MANUAL, with_key=True)) == 0
    printed = capsys.readouterr().out
    assert 'core/key 1' in printed
    assert MANUAL_KEY.hex() not in printed


def test_table_with_keys_is_refused_when_others_may_read_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run('show', write(tmp_path / 'table', MANUAL, with_key=True, mode=0o644)) == 2
    assert 'table' in capsys.readouterr().err


@pytest.mark.parametrize(('time', 'status'), [('19700101002000Z', 0), ('19700101010000Z', 1)])
def test_select_prints_the_row_to_send_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], time: str, status: int
) -> None:
    table = write(tmp_path / 'table', MANUAL, with_key=True)
    assert run('select', table, '--peer', str(PEER), '--at', time) == status
    printed = capsys.readouterr().out
    assert MANUAL_KEY.hex() not in printed
    if status == 0:
        assert json.loads(printed) == MANUAL.to_json()


def test_select_finds_the_row_of_a_received_key_id(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write(tmp_path / 'table', MANUAL, NEGOTIATED)
    words = ('select', table, '--peer', str(PEER), '--at', '19700101002000Z', '--receive')
    assert run(*words, '0b') == 0
    assert json.loads(capsys.readouterr().out)['AdminKeyName'] == MANUAL.admin_key_name
    assert run(*words, '63') == 1


@pytest.mark.parametrize('text', ['', '{}', '[1]', '[{}]', '[' * 100_000])
def test_table_is_refused_when_it_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / 'table').write_text(text or ' ')
    assert run('show', str(tmp_path / 'table')) == 2
    assert capsys.readouterr().err.startswith('gatekeeper keytable: ')


# --- export ---------------------------------------------------------------------------------------


def test_export_has_keys_when_they_are_given(tmp_path: Path) -> None:
    table, out, keys = tmp_path / 'table', tmp_path / 'out', tmp_path / 'keys.json'
    keys.touch(0o600)
    # As the opener sees it: here the peer.
    known = {
        'algorithm': NEGOTIATED.algorithm.name,
        'master_key': NEGOTIATED_KEY.hex(),
        'local': REMOTE_END,
        'remote': LOCAL_END,
        'send_id': NEGOTIATED.recv_id,
        'recv_id': NEGOTIATED.send_id,
    }
    keys.write_text(json.dumps([known]))
    file = tmp_path / 'core.key'
    file.touch(0o600)
    file.write_text('0x' + MANUAL_KEY.hex())
    words = ('--keys', str(keys), '--key-file', MANUAL.admin_key_name, str(file))
    assert run('export', write(table, MANUAL, NEGOTIATED), str(out), *words) == 0
    assert [row['Key'] for row in json.loads(out.read_text())] == [
        MANUAL_KEY.hex(),
        NEGOTIATED_KEY.hex(),
    ]
    assert out.stat().st_mode & 0o777 == 0o600


def test_export_is_redacted_when_no_key_is_given(tmp_path: Path) -> None:
    out = tmp_path / 'out'
    assert run('export', write(tmp_path / 'table', MANUAL), str(out)) == 0
    assert [row['Key'] for row in json.loads(out.read_text())] == [None]


def test_export_overwrites_nothing(tmp_path: Path) -> None:
    out = tmp_path / 'out'
    out.write_text('older')
    assert run('export', write(tmp_path / 'table', MANUAL), str(out)) == 2
    assert out.read_text() == 'older'


# --- import ---------------------------------------------------------------------------------------


def take(tmp_path: Path, *words: str, rows: tuple[Row, ...] = (MANUAL,)) -> int:
    table = write(tmp_path / 'table', *rows, with_key=True)
    return run('import', table, '--name', 'core', '--folder', str(tmp_path), *words)


@pytest.mark.parametrize(
    ('words', 'ids'),
    [((), 'send-id 10; recv-id 11;'), (('--from-peer',), 'send-id 11; recv-id 10;')],
)
def test_imported_rows_are_a_keychain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], ids: str
) -> None:
    assert take(tmp_path, *words) == 0
    printed = capsys.readouterr().out
    assert printed.startswith('keychain core {\n    key 1 {\n')
    assert ids in printed
    assert 'send-lifetime 1970-01-01T00:16:40Z 1970-01-01T00:33:20Z;' in printed
    assert MANUAL_KEY.hex() not in printed
    file = tmp_path / 'core-1.key'
    assert file.read_text() == f'0x{MANUAL_KEY.hex()}\n'
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ('row', 'cause'),
    [
        (replace(MANUAL, key=None), 'has no key'),
        (replace(MANUAL, direction=Direction.OUT), 'for sending only'),
        (replace(MANUAL, send=Lifetime(0.0, 2000.0)), 'is not within accept-lifetime'),
        (replace(MANUAL, direction=Direction.DISABLED), 'has no key'),
    ],
)
def test_import_writes_nothing_when_a_row_is_unusable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], row: Row, cause: str
) -> None:
    assert take(tmp_path, rows=(row,)) == 2
    assert cause in capsys.readouterr().err
    assert not list(tmp_path.glob('*.key'))


def test_import_leaves_no_file_when_one_exists(tmp_path: Path) -> None:
    (tmp_path / 'core-2.key').write_text('older')
    assert take(tmp_path, rows=(MANUAL, replace(MANUAL, send_id=3, recv_id=4))) == 2
    assert [path.name for path in tmp_path.glob('*.key')] == ['core-2.key']


def test_import_takes_only_rows_of_the_peer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = replace(MANUAL, peers=(ip_address('10.0.0.3'),), send_id=3, recv_id=4)
    assert take(tmp_path, '--peer', '10.0.0.3', rows=(MANUAL, other)) == 0
    assert capsys.readouterr().out.count('send-id') == 1
