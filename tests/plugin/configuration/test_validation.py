"""`validate` finds what a daemon would refuse, and warns of what will not work."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from plugin.configuration import environment, validation
from plugin.configuration.validation import unknown_settings
from tests.plugin.texts import SECTION, neighbor

Write = Callable[[str], Path]


def validate(path: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, '-m', 'plugin.launcher', 'validate', str(path)],
        capture_output=True,
        text=True,
        env=os.environ | settings,
        timeout=60,
        check=False,
    )


def test_validate_warns_when_no_address_listens(write: Write) -> None:
    done = validate(write(neighbor(more='    passive;\n')))
    assert done.returncode == 0
    assert 'warning: neighbor 127.0.0.2 is passive, and nothing listens for it' in done.stderr


def test_validate_warns_of_nothing_when_all_is_well(write: Write) -> None:
    done = validate(write(neighbor()))
    assert (done.returncode, 'warning:' in done.stderr) == (0, False)


def test_validate_warns_of_an_unknown_setting(write: Write) -> None:
    done = validate(write(neighbor()), exabgp_ikev2_timelime='/var/log/x')
    assert 'warning: exabgp_ikev2_timelime is no setting' in done.stderr


def test_validate_warns_when_the_helper_cannot_start(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / 'root'
    closed.mkdir(0o700)
    monkeypatch.setattr(sys, 'executable', str(closed / 'python'))
    monkeypatch.setattr(os, 'geteuid', lambda: 0)
    obstacle = environment.helper_obstacle()
    assert obstacle is not None
    assert 'so its helper for the command line cannot start' in obstacle
    assert list(validation.warnings_about([], {}, 0.0)) == [obstacle]


def test_validate_refuses_two_backends_as_a_daemon_does(write: Write) -> None:
    both = [
        neighbor(
            peer=f'127.0.0.{number}',
            section=SECTION.replace('r2.lab', f'r{number}.lab').replace(
                'psk-file', f'tcp-ao-backend {backend}; psk-file'
            ),
        )
        for number, backend in ((2, 'kernel'), (3, 'userspace'))
    ]
    done = validate(write(''.join(both)))
    assert done.returncode == 1
    assert 'different tcp-ao-backends' in done.stderr


def test_validate_names_a_byte_order_mark(write: Write) -> None:
    path = write(neighbor())
    path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
    done = validate(path)
    assert done.returncode == 1
    assert 'begins with a byte order mark (BOM)' in done.stderr


@pytest.mark.parametrize('name', ['exabgp_ikev2_port', 'exabgp.ikev2.router', 'exabgp_tcp_bind'])
def test_unknown_settings_leaves_known_ones_alone(name: str) -> None:
    assert list(unknown_settings({name: ''})) == []
