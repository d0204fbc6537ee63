"""`gatekeeper init` writes two folders that a router starts from, or nothing."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from gatekeeper.adapter.first_configuration import Side
from gatekeeper.tools.errors import ToolError
from gatekeeper.tools.init.questions import CREDENTIALS, answers_of
from gatekeeper.tools.init.routers import write
from tests.gatekeeper.tools.init.test_questions import FAMILIES, GIVEN

OPTIONS = tuple(word for name, value in GIVEN.items() for word in (f'--{name}', value or ''))


class Adapter:
    """One that takes what it is given, or not."""

    file_name = 'router.conf'
    families: Sequence[str] = FAMILIES

    def __init__(self, fault: str | None = None) -> None:
        self.fault = fault

    def text(self, side: Side) -> str:
        return '\n'.join(side.credential)

    def why_invalid(self, path: Path) -> str | None:
        return self.fault

    def start_command(self, path: Path) -> str:
        return f'start {path}'


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, '-m', 'gatekeeper', 'init', str(folder), *options],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


@pytest.mark.parametrize('credential', CREDENTIALS)
def test_init_writes_configurations_that_the_router_takes(credential: str, tmp_path: Path) -> None:
    done = run(tmp_path / 'new', *OPTIONS[:-1], credential, '--family', 'ipv6 unicast')
    assert done.returncode == 0, done.stderr
    # The router itself has validated both: see test_refused_configuration_leaves_nothing.
    for name in ('r1.lab', 'r2.lab'):
        assert 'family { ipv6 unicast; }' in (tmp_path / 'new' / name / 'exabgp.conf').read_text()
        assert f'{name}/ goes to {name}' in done.stdout


@pytest.mark.parametrize('credential', CREDENTIALS)
def test_secrets_are_private_and_never_printed(credential: str, tmp_path: Path) -> None:
    done = run(tmp_path, *OPTIONS[:-1], credential)
    secret = [path for path in tmp_path.rglob('*') if path.suffix in ('.psk', '.pem')]
    assert len(secret) == 2
    for path in secret:
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_text().splitlines()[0 if path.suffix == '.psk' else 1] not in done.stdout


def test_both_routers_have_the_same_pre_shared_key(tmp_path: Path) -> None:
    write(answers_of(GIVEN, FAMILIES, None), tmp_path, Adapter())
    one, other = (path.read_bytes() for path in tmp_path.rglob('*.psk'))
    assert one == other


def test_private_key_stays_with_its_router(tmp_path: Path) -> None:
    answers = answers_of(GIVEN | {'credential': 'raw-key'}, FAMILIES, None)
    write(answers, tmp_path, Adapter())
    assert {path.name for path in (tmp_path / 'r1.lab').iterdir()} == {
        'router.conf',
        'r1.lab.pem',
        'r2.lab.pub',
    }


def test_existing_files_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / 'r2.lab').mkdir()
    (tmp_path / 'r2.lab' / 'exabgp.conf').write_text('mine')
    done = run(tmp_path, *OPTIONS)
    assert done.returncode == 2
    assert 'r2.lab exists: nothing is ever overwritten' in done.stderr
    assert (tmp_path / 'r2.lab' / 'exabgp.conf').read_text() == 'mine'
    assert not (tmp_path / 'r1.lab').exists()


def test_refused_configuration_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match='line 7: no such word'):
        write(answers_of(GIVEN, FAMILIES, None), tmp_path, Adapter('line 7: no such word'))
    assert not list(tmp_path.iterdir())


def test_folder_is_named_when_it_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    done = run(tmp_path / 'file' / 'below', *OPTIONS)
    assert done.returncode == 2
    assert str(tmp_path / 'file') in done.stderr


def test_unknown_family_is_told_with_the_known_ones(tmp_path: Path) -> None:
    done = run(tmp_path, *OPTIONS, '--family', 'ipv5 unicast')
    assert done.returncode == 2
    assert 'ipv4 unicast' in done.stderr


def test_missing_options_are_asked_at_the_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, '-m', 'gatekeeper', 'init', str(tmp_path), *OPTIONS[2:]],
        stdin=theirs,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(theirs)
        os.write(ours, b'edge1\n')
        said = process.communicate(timeout=60)[0]
    os.close(ours)
    assert process.returncode == 0, said
    assert 'name of this router [r1.lab]' in said
    assert (tmp_path / 'edge1' / 'exabgp.conf').exists()
