"""Timeline, key table, `show ikev2`, and the environment."""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from exabgp.logger import log
from exabgp.reactor.api import API
from exabgp.reactor.api.command.command import Command

from gatekeeper.reporting.events import EventName, OperatorEvent
from gatekeeper.reporting.keys_json import KeyTable
from gatekeeper.reporting.text_table import KEY_TABLE_FIELDS
from gatekeeper.service.gatekeeper import GatekeeperError
from plugin.commands import show as showing
from plugin.commands.answers import NOTHING, known
from plugin.configuration.environment import read_ports, write_ports
from plugin.log import Recorder
from tcpao.mkt import SocketPair
from tests.plugin.doubles import Daemon, a_policy, an_mkt
from tests.plugin.texts import neighbor

Start = Callable[..., Daemon]

POLICY = a_policy()
OPENED = SocketPair(ip_address('10.0.0.1'), 40001, ip_address('10.0.0.2'), 179)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_record_is_one_line_of_the_timeline(tmp_path: Path) -> None:
    path = tmp_path / 'timeline.jsonl'
    recorder = Recorder('r1', str(path))
    before = time.time()
    recorder.note(POLICY, EventName.BIND, pinned=True)
    recorder.record(OperatorEvent(1.5, 'r1', None, EventName.END))
    bind, end = lines(path)
    assert before <= bind.pop('time') <= time.time()
    assert bind == {
        'router': 'r1',
        'session': 'ipv4 unicast',
        'event': 'bind',
        'details': {'neighbor': '10.0.0.2', 'pinned': True},
    }
    assert end == {'time': 1.5, 'router': 'r1', 'session': None, 'event': 'end', 'details': {}}


def test_timeline_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / 'timeline.jsonl'
    for _ in range(2):
        recorder = Recorder('r1', str(path))
        recorder.record(OperatorEvent(1.0, 'r1', None, EventName.END))
        recorder.close()
    assert len(lines(path)) == 2


def test_router_without_a_name_has_that_of_its_host() -> None:
    assert Recorder().router == os.uname().nodename


# --- the log ------------------------------------------------------------------------------------


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Return what was logged, with its level."""
    lines: list[tuple[str, str]] = []
    for level in ('debug', 'info', 'warning', 'error', 'critical'):
        monkeypatch.setattr(
            log,
            level,
            lambda message, source='', at=level: lines.append((at, message())),
        )
    return lines


NAME = 'neighbor 10.0.0.2 session ipv4 unicast'


def test_refusal_is_one_line_with_cause_and_what_to_try(
    said: list[tuple[str, str]],
) -> None:
    recorder = Recorder('r1')
    for _ in range(3):
        recorder.note(
            POLICY, EventName.REFUSED, step='IKE', cause='no answer', text='of r2', hint='look'
        )
    # The daemon's own report of the same attempt.
    recorder.tell('10.0.0.2', 'ipv4 unicast', 'IKE: no answer: of r2; look')
    assert said == [('error', f'{NAME}: IKE: no answer: of r2; look')]


def test_failure_is_told_again_after_a_reload(said: list[tuple[str, str]]) -> None:
    recorder = Recorder('r1')
    for _ in range(2):
        recorder.note(POLICY, EventName.REFUSED, step='IKE', cause='no answer', hint='look')
        recorder.reloaded()
    assert len(said) == 2


def test_unknown_source_is_a_warning(said: list[tuple[str, str]]) -> None:
    details: dict[str, str | int | float | bool | None] = {'step': 'accept', 'cause': 'who?'}
    Recorder('r1').record(OperatorEvent(1.0, 'r1', None, EventName.REFUSED, details))
    assert said == [('warning', 'refused: accept: who?')]


def test_every_line_about_a_session_begins_with_its_name(said: list[tuple[str, str]]) -> None:
    recorder = Recorder('r1')
    recorder.note(POLICY, EventName.ESTABLISHED, send_id=1, backend='kernel')
    recorder.record(OperatorEvent(1.0, 'r1', None, EventName.IKE_INIT, {'sent': True}))
    assert said == [
        ('info', f'{NAME}: established send_id=1 backend=kernel'),
        ('debug', 'ike_init sent=True'),
    ]


def test_end_of_a_session_names_its_cause(said: list[tuple[str, str]]) -> None:
    Recorder('r1').note(POLICY, EventName.END, pair='a -> b', cause='the connection was lost')
    assert said == [('warning', f'{NAME}: the session has ended: the connection was lost')]


def test_near_expiry_is_a_warning(said: list[tuple[str, str]]) -> None:
    details: dict[str, str | int | float | bool | None] = {
        'neighbor': '10.0.0.2, 10.0.0.3 and 7 more',
        'cause': 'our certificate CN=r1 ends in 20 days',
        'hint': 'renew it',
    }
    Recorder('r1').record(OperatorEvent(1.0, 'r1', None, EventName.EXPIRES, details))
    line = 'neighbor 10.0.0.2, 10.0.0.3 and 7 more: our certificate CN=r1 ends in 20 days; renew it'
    assert said == [('warning', line)]


@pytest.mark.parametrize(
    'event', ['bind', 'ike_init', 'ike_auth', 'child_sa', 'mkt_installed', 'syn', 'mkt_removed']
)
def test_details_of_failed_attempts_are_for_the_timeline_only(
    event: str, said: list[tuple[str, str]], tmp_path: Path
) -> None:
    path = tmp_path / 'timeline.jsonl'
    Recorder('r1', str(path)).note(POLICY, EventName(event))
    assert [level for level, _ in said] == ['debug']
    assert len(lines(path)) == 1


# --- key tables ---------------------------------------------------------------------------------


def test_key_table_shows_the_openers_ends_and_ids_at_both_ends(tmp_path: Path) -> None:
    expected = {
        'session': 'ipv4 unicast',
        'local': '10.0.0.1:40001',
        'remote': '10.0.0.2:179',
        'algorithm': 'hmac-sha-1-96',
        'tcp_options': True,
        'send_id': 1,
        'recv_id': 17,
        'master_key': bytes(range(20)).hex(),
    }
    table = KeyTable(str(tmp_path / 'keys.json'))
    table.add(POLICY, True, an_mkt(OPENED))
    assert json.loads((tmp_path / 'keys.json').read_text()) == [expected]
    table.add(POLICY, False, an_mkt(OPENED.reversed()))
    (_, other) = json.loads((tmp_path / 'keys.json').read_text())
    assert other == expected | {'send_id': 17, 'recv_id': 1}


def test_ipv6_ends_are_in_brackets(tmp_path: Path) -> None:
    table = KeyTable(str(tmp_path / 'keys.json'))
    pair = SocketPair(ip_address('fd00::1'), 40001, ip_address('fd00::2'), 179)
    table.add(POLICY, True, an_mkt(pair))
    (row,) = json.loads((tmp_path / 'keys.json').read_text())
    assert (row['local'], row['remote']) == ('[fd00::1]:40001', '[fd00::2]:179')


def test_key_table_is_a_list_after_every_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'keys.json'
    counts = []
    real = os.pwrite

    def pwrite(descriptor: int, octets: bytes, offset: int) -> int:
        written = real(descriptor, octets, offset)
        counts.append(len(json.loads(path.read_text())))
        return written

    monkeypatch.setattr(os, 'pwrite', pwrite)
    table = KeyTable(str(path))
    for _ in range(3):
        table.add(POLICY, True, an_mkt(OPENED))
    assert counts == [0, 1, 2, 3]


@contextmanager
def full_at(size: int) -> Iterator[None]:
    """No file may become larger, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize('written', [0, 1])
def test_key_table_is_a_list_and_goes_on_when_the_disk_is_full(
    written: int, tmp_path: Path
) -> None:
    path = tmp_path / 'keys.json'
    table = KeyTable(str(path))
    for _ in range(written):
        table.add(POLICY, True, an_mkt(OPENED))
    with full_at(path.stat().st_size + 20):
        table.add(POLICY, True, an_mkt(OPENED))
    assert len(json.loads(path.read_text())) == written
    table.add(POLICY, True, an_mkt(OPENED))
    assert len(json.loads(path.read_text())) == written + 1


def test_timeline_begins_a_line_when_the_last_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / 'timeline'
    recorder = Recorder('r1', str(path))
    with full_at(10):
        recorder.record(OperatorEvent(1.0, 'r1', None, EventName.END))
    recorder.record(OperatorEvent(2.0, 'r1', None, EventName.END))
    recorder.close()
    assert json.loads(path.read_text().splitlines()[1])['time'] == 2.0


def test_key_table_takes_keys_of_two_threads(tmp_path: Path) -> None:
    table = KeyTable(str(tmp_path / 'keys.json'))

    def work() -> None:
        for _ in range(20):
            table.add(POLICY, True, an_mkt(OPENED))

    threads = [Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads((tmp_path / 'keys.json').read_text())) == 40


def test_older_key_table_is_replaced_whoever_owns_it(tmp_path: Path) -> None:
    """The old file's owner could read it whatever its mode, and so could those who have it open."""
    path = tmp_path / 'keys.json'
    path.write_text('[{"master_key": "00"}]' * 10)
    path.chmod(0o644)
    os.chown(path, 65534, 65534)
    with path.open() as older:
        KeyTable(str(path))
        assert path.read_text() == '[]\n'
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.stat().st_uid == os.geteuid()
        assert os.fstat(older.fileno()).st_ino != path.stat().st_ino


def test_key_table_is_refused_when_it_is_a_link_or_a_pipe(tmp_path: Path) -> None:
    (tmp_path / 'link').symlink_to(tmp_path / 'elsewhere')
    os.mkfifo(tmp_path / 'pipe')
    for name in ('link', 'pipe'):
        with pytest.raises(OSError, match='not a regular file'):
            KeyTable(str(tmp_path / name))
        assert os.path.lexists(tmp_path / name)
    assert not (tmp_path / 'elsewhere').exists()


# --- `show ikev2` -------------------------------------------------------------------------------

ROW: dict[str, object] = {
    'neighbor': '10.0.0.2',
    'session': 'ipv4 unicast',
    'local': '10.0.0.1:40001',
    'remote': '10.0.0.2:179',
    'state': 'in use',
    'backend': 'kernel',
    'algorithm': 'hmac-sha-1-96',
    'send_id': 1,
    'recv_id': 17,
    'since': 1000.0,
    'expires': 4000.0,
    'rekeys': 3,
    'peer_id': 'fqdn r2.lab',
    'last_error': None,
}


def ask(one: Daemon, command: str) -> list[str]:
    del one.processes.written[:]
    API(one.reactor).process(one.reactor, 'service', command)
    return one.processes.written


def test_show_is_a_table_with_a_line_for_each_session(daemon: Start) -> None:
    one = daemon(neighbor() + neighbor(peer='127.0.0.3'))
    assert one.begin()
    head, *rows, last = ask(one, 'show ikev2')
    assert head.startswith('Neighbor')
    assert last.startswith('TCP-AO backend: ')
    assert [row.split()[0] for row in rows] == ['127.0.0.2', '127.0.0.3']


def test_show_refuses_a_word_that_it_does_not_know(daemon: Start) -> None:
    one = daemon(neighbor())
    assert one.begin()
    said = "error: show ikev2: 'jsno' is unknown; expected json, backend or keytable"
    assert ask(one, 'show ikev2 jsno') == [said]


def test_show_json_is_one_list(daemon: Start) -> None:
    one = daemon(neighbor())
    assert one.begin()
    (text,) = ask(one, 'show ikev2 json')
    assert json.loads(text) == [{'neighbor': '127.0.0.2'}]


def test_show_without_gated_neighbors_tells_so(daemon: Start) -> None:
    one = daemon(neighbor(section=''))
    assert one.begin()
    assert ask(one, 'show ikev2') == [NOTHING]
    assert ask(one, 'show ikev2 json') == ['[]']


def test_show_of_a_dead_gatekeeper_tells_so(daemon: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    one = daemon(neighbor())
    assert one.begin()

    def look() -> Future[list[dict[str, object]]]:
        raise GatekeeperError('the gatekeeper is not running')

    monkeypatch.setattr(one.gatekeeper, 'look', look)
    assert ask(one, 'show ikev2') == ['error: the gatekeeper is not running']
    assert json.loads(ask(one, 'show ikev2 json')[0]) == {'error': 'the gatekeeper is not running'}


def test_show_tells_which_backend_and_why(daemon: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    one = daemon(neighbor())
    assert one.begin()
    row = ROW | {'backend_why': 'this kernel has TCP-AO'}
    monkeypatch.setattr(one.gatekeeper, 'look', lambda: known([row]))
    assert ask(one, 'show ikev2')[-1] == 'TCP-AO backend: kernel, since this kernel has TCP-AO'


def test_show_backend_tells_what_it_has_counted(daemon: Start) -> None:
    one = daemon(neighbor())
    assert one.begin()
    said = 'TCP-AO backend: userspace, since it was asked for'
    assert ask(one, 'show ikev2 backend') == [said, 'good: 7', 'bad: 2']
    assert json.loads(ask(one, 'show ikev2 backend json')[0]) == one.gatekeeper.counted()


def test_show_backend_without_gated_neighbors_tells_so(daemon: Start) -> None:
    one = daemon(neighbor(section=''))
    assert one.begin()
    assert ask(one, 'show ikev2 backend') == [NOTHING]


def test_show_keytable_tells_rows(daemon: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    one = daemon(neighbor())
    assert one.begin()
    row = dict.fromkeys(KEY_TABLE_FIELDS, 'x') | {'Peers': ['10.0.0.2'], 'Key': None}
    monkeypatch.setattr(one.gatekeeper, 'key_table', lambda: known([row]))
    head, line = ask(one, 'show ikev2 keytable')
    assert head.split() == list(KEY_TABLE_FIELDS)
    assert '10.0.0.2' in line
    assert json.loads(ask(one, 'show ikev2 keytable json')[0]) == [row]


def test_table_has_every_field() -> None:
    head, row = showing.table([ROW], now=1060.0)
    for cell in ('10.0.0.2', 'in use', 'hmac-sha-1-96', '1/17', '60 s', '2940 s', 'fqdn r2.lab'):
        assert cell in row
    assert row.index('in use') == head.index('State')


def test_table_tells_the_last_error_and_what_to_try_next() -> None:
    row = ROW | {'recv_id': None, 'last_error': 'IKE: no answer', 'try_next': 'look at the peer'}
    _, shown = showing.table([row], now=1060.0)
    assert shown.endswith('IKE: no answer; look at the peer')
    assert ' 1/- ' in shown


def test_table_tells_a_keychains_key_and_what_comes_next() -> None:
    chain = ROW | {'peer_id': None, 'keychain': 'core', 'key': 7}
    head, row, last, ever, none = showing.table(
        [
            chain | {'next_change': 1160.0, 'next_key': 8},
            chain | {'next_change': 1160.0, 'next_key': None},
            chain | {'next_change': None, 'next_key': None},
            chain | {'key': None},
        ],
        now=1060.0,
    )
    assert 'keychain core key 7' in row
    assert row[head.index('Next') :].startswith('key 8 in 100 s')
    assert last[head.index('Next') :].startswith('denies in 100 s')
    assert ever[head.index('Next') :].startswith('- ')
    assert 'keychain core ' in none
    assert 'keychain core key' not in none


def test_text_is_escaped_when_it_is_not_ascii(
    daemon: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ExaBGP's pipes take ASCII only; anything else would end the daemon."""
    one = daemon(neighbor())
    assert one.begin()
    monkeypatch.setattr(
        one.gatekeeper, 'look', lambda: known([ROW | {'peer_id': 'key-id k\u00e9y'}])
    )
    assert 'k\\xe9y' in ask(one, 'show ikev2')[1]
    assert json.loads(ask(one, 'show ikev2 json')[0])[0]['peer_id'] == 'key-id k\u00e9y'


def test_command_names_do_not_begin_one_another() -> None:
    others = [name for name in Command.functions if name != showing.NAME]
    for name in others:
        assert not showing.NAME.endswith(' ' + name)
        assert not name.endswith(' ' + showing.NAME)
        assert name + ' ' not in showing.NAME + ' '
        assert showing.NAME + ' ' not in name + ' '


# --- environment --------------------------------------------------------------------------------


@pytest.mark.parametrize('text', ['500 4500', ' 500, 4500 ', '500,4500'])
def test_two_ports_are_read(text: str) -> None:
    assert read_ports(text) == (500, 4500)
    assert read_ports(write_ports(read_ports(text)).strip("'")) == (500, 4500)


@pytest.mark.parametrize(
    'text', ['', '500', '500 500', '0 4500', '500 65536', 'a b', '1 2 3', '\u0665 \u0666']
)
def test_words_are_refused_when_they_are_not_two_ports(text: str) -> None:
    with pytest.raises(ValueError, match=r'exabgp\.ikev2\.port'):
        read_ports(text)


def test_recorder_goes_on_in_a_new_file_when_renamed_away(tmp_path: Path) -> None:
    path, rotated = tmp_path / 'timeline', tmp_path / 'timeline.1'
    recorder = Recorder('r1', str(path))
    recorder.record(OperatorEvent(1.0, 'r1', None, EventName.END))
    path.rename(rotated)
    recorder.record(OperatorEvent(2.0, 'r1', None, EventName.END))
    recorder.close()
    assert [len(each.read_text().splitlines()) for each in (rotated, path)] == [1, 1]
