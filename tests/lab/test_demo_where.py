"""Where the demo runs and what protects it there, as the host is and as it is asked for."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gatekeeper.configuration.directive_table import TABLE
from lab import tcpao_backend
from lab.demo import __main__ as demo
from lab.demo import attacks, where
from lab.demo.places import CONFIGURATION, UNABLE
from lab.demo.where import NowhereError, Where, decide
from lab.impostors import Ending, Heard, TcpKey
from lab.uml.boot import Guest
from tcpao.backend import Preference

NO_QUEUE = 'no netfilter queue here'

Host = Callable[[bool], None]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host: whether its kernel has TCP-AO."""
    return lambda kernel: monkeypatch.setattr(where, 'has_tcp_ao', lambda: kernel)


@pytest.mark.parametrize(
    ('kernel', 'wanted', 'guest', 'expected'),
    [
        (True, 'auto', False, 'here, kernel'),
        (True, 'kernel', True, 'here, kernel'),
        (True, 'userspace', False, 'here, userspace'),
        (True, 'userspace', True, 'here, userspace'),
        (False, 'auto', False, 'here, userspace'),
        (False, 'userspace', False, 'here, userspace'),
        (False, 'auto', True, 'guest, kernel'),
        (False, 'kernel', True, 'guest, kernel'),
        (False, 'userspace', True, 'guest, userspace'),
    ],
)
def test_demo_runs_where_its_backend_is_available(
    kernel: bool, wanted: str, guest: bool, expected: str, host: Host
) -> None:
    host(kernel)
    decided = decide(Preference(wanted), guest=guest)
    assert said(decided) == expected


def said(decided: Where) -> str:
    backend = 'userspace' if where.IN_USER_SPACE in decided.words else 'kernel'
    assert decided.guest == (where.IN_GUEST in decided.words)
    return f'{"guest" if decided.guest else "here"}, {backend}'


def test_error_names_the_guest_when_the_kernel_has_no_tcp_ao(host: Host) -> None:
    host(False)
    with pytest.raises(NowhereError, match=r'no TCP-AO .*DEMO=--guest'):
        decide(Preference.KERNEL, guest=False)


@pytest.fixture
def no_queue(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """Run the demo on a host without both, whose guest is empty; the runners that were asked."""
    asked: list[str] = []

    def here(command: list[str], guest: Guest, output: Callable[[bytes], None]) -> int:
        asked.append('here')
        output(NO_QUEUE.encode() + b'\n')
        return UNABLE

    def in_guest(command: list[str], guest: Guest, output: Callable[[bytes], None]) -> int:
        asked.append('guest')
        return 1

    def begin(*arguments: str) -> list[str]:
        assert demo.main(arguments) == 1
        return asked

    host(False)
    monkeypatch.setattr(demo, 'EVIDENCE', tmp_path / 'evidence')
    monkeypatch.setattr(demo, 'run_here', here)
    monkeypatch.setattr(demo, 'run', in_guest)
    return begin


def test_guest_is_used_when_packets_cannot_be_queued(
    no_queue: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert no_queue() == ['here', 'guest']
    assert f'{where.IN_GUEST}, since here {NO_QUEUE}' in capsys.readouterr().out


def test_error_has_the_reason_when_user_space_is_unavailable(
    no_queue: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert no_queue('--tcp-ao-backend', 'userspace') == ['here']
    assert re.search(rf'{NO_QUEUE}.*DEMO=--guest', capsys.readouterr().err)


def test_demo_changes_nothing_when_its_backend_is_unavailable(
    host: Host,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    host(False)
    monkeypatch.setattr(demo, 'EVIDENCE', tmp_path)
    (tmp_path / 'wire.pcap').touch()
    assert demo.main(['--tcp-ao-backend', 'kernel']) == 1
    shown = capsys.readouterr()
    assert 'DEMO=--guest' in shown.err
    assert not shown.out
    assert (tmp_path / 'wire.pcap').exists()


def test_unknown_backend_is_refused_with_the_known_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        demo.main(['--tcp-ao-backend', 'vpp'])
    assert re.search("'vpp'.*kernel.*userspace.*auto", capsys.readouterr().err)


@pytest.mark.parametrize('backend', Preference)
def test_both_routers_have_the_backend_in_their_configuration(
    backend: Preference, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(CONFIGURATION, tmp_path / 'copy'))
    tcpao_backend.put_under(folder, backend)
    assert 'tcp-ao-backend' in TABLE
    for router in ('r1', 'r2'):
        text = (folder / f'{router}.conf').read_text()
        assert text.count(f'ikev2 {{ tcp-ao-backend {backend};') == text.count('ikev2 {') == 1


def test_impostor_signs_with_the_same_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[TcpKey] = []

    def speak(*_: object, key: TcpKey | None, **__: object) -> Heard:
        keys.extend([key] if key is not None else [])
        return Heard(Ending.NO_CONNECTION, b'')

    monkeypatch.setattr(attacks, 'speak', speak)
    for name, attack in attacks.from_address_of_r1(1, 2, Preference.USERSPACE).items():
        if 'SYN' in name:
            attack()
    assert [key.backend for key in keys] == [Preference.USERSPACE] * 2
