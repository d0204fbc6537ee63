"""Where the demo runs and what protects it there, as the host is and as it is asked for."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import tcpao_backend
from lab.demo import __main__ as demo
from lab.demo import attacks, where
from lab.demo.places import CONFIGURATION
from lab.demo.where import NowhereError, Where, decide
from lab.impostors import Ending, Heard, TcpKey
from plugin.grammar import SECTION
from tcpao.backend import BackendError, Preference
from tcpao.userspace.backend import UserspaceBackend

NO_QUEUE = 'no netfilter queue here'

Host = Callable[[bool, str | None], None]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host: whether its kernel has TCP-AO, and why no packet process can start (None: it can)."""

    def be(kernel: bool, lacking: str | None) -> None:
        def start(backend: object) -> None:
            if lacking is not None:
                raise BackendError(lacking)

        monkeypatch.setattr(where, 'has_tcp_ao', lambda: kernel)
        monkeypatch.setattr(UserspaceBackend, 'start', start)

    return be


@pytest.mark.parametrize(
    ('kernel', 'lacking', 'wanted', 'guest', 'expected'),
    [
        (True, None, 'auto', False, 'here, kernel'),
        (True, None, 'kernel', True, 'here, kernel'),
        (True, None, 'userspace', False, 'here, userspace'),
        (True, None, 'userspace', True, 'here, userspace'),
        (False, None, 'auto', False, 'here, userspace'),
        (False, None, 'userspace', False, 'here, userspace'),
        (False, None, 'auto', True, 'guest, kernel'),
        (False, None, 'kernel', True, 'guest, kernel'),
        (False, None, 'userspace', True, 'guest, userspace'),
        (False, NO_QUEUE, 'auto', False, 'guest, kernel'),
    ],
)
def test_it_runs_where_what_is_wanted_can_be_had(
    kernel: bool, lacking: str | None, wanted: str, guest: bool, expected: str, host: Host
) -> None:
    host(kernel, lacking)
    decided = decide(Preference(wanted), guest=guest)
    assert said(decided) == expected


def said(decided: Where) -> str:
    backend = 'userspace' if where.IN_USER_SPACE in decided.words else 'kernel'
    assert decided.guest == (where.IN_GUEST in decided.words)
    return f'{"guest" if decided.guest else "here"}, {backend}'


def test_a_guest_for_want_of_a_packet_process_says_what_is_lacking(host: Host) -> None:
    host(False, NO_QUEUE)
    assert NO_QUEUE in decide(Preference.AUTO, guest=False).words


def test_a_kernel_that_has_none_is_an_error_that_names_the_guest(host: Host) -> None:
    host(False, None)
    with pytest.raises(NowhereError, match=r'no TCP-AO .*DEMO=--guest'):
        decide(Preference.KERNEL, guest=False)


def test_user_space_that_cannot_be_had_is_an_error_with_the_reason(host: Host) -> None:
    host(False, NO_QUEUE)
    with pytest.raises(NowhereError, match=rf'{NO_QUEUE}.*DEMO=--guest'):
        decide(Preference.USERSPACE, guest=False)


def test_what_cannot_be_had_ends_the_demo_before_it_has_changed_anything(
    host: Host,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    host(False, None)
    monkeypatch.setattr(demo, 'EVIDENCE', tmp_path)
    (tmp_path / 'wire.pcap').touch()
    assert demo.main(['--tcp-ao-backend', 'kernel']) == 1
    shown = capsys.readouterr()
    assert 'DEMO=--guest' in shown.err
    assert not shown.out
    assert (tmp_path / 'wire.pcap').exists()


def test_a_word_that_is_no_backend_is_refused_with_those_that_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        demo.main(['--tcp-ao-backend', 'vpp'])
    assert re.search("'vpp'.*kernel.*userspace.*auto", capsys.readouterr().err)


@pytest.mark.parametrize('backend', Preference)
def test_both_routers_are_told_in_the_words_of_the_configuration(
    backend: Preference, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(CONFIGURATION, tmp_path / 'copy'))
    tcpao_backend.put_under(folder, backend)
    assert 'tcp-ao-backend' in SECTION
    for router in ('r1', 'r2'):
        text = (folder / f'{router}.conf').read_text()
        assert text.count(f'ikev2 {{ tcp-ao-backend {backend};') == text.count('ikev2 {') == 1


def test_an_impostor_signs_with_the_same_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[TcpKey] = []

    def speak(*_: object, key: TcpKey | None, **__: object) -> Heard:
        keys.extend([key] if key is not None else [])
        return Heard(Ending.NO_CONNECTION, b'')

    monkeypatch.setattr(attacks, 'speak', speak)
    for name, attack in attacks.from_address_of_r1(1, 2, Preference.USERSPACE).items():
        if 'SYN' in name:
            attack()
    assert [key.backend for key in keys] == [Preference.USERSPACE] * 2
