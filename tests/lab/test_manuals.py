"""Manual pages and shell completion are made from the parsers, and their tools take them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lab.manuals import COMMANDS, write


@pytest.fixture(scope='module')
def manuals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('manuals')
    write(folder)
    return folder


@pytest.mark.parametrize('name', COMMANDS)
def test_page_names_every_verb_of_the_command(name: str, manuals: Path) -> None:
    page = (manuals / 'man1' / f'{name}.1').read_text().replace('\\', '')
    verbs = {
        'gatekeeper': ['keygen', 'probe', 'verify', 'doctor', 'init'],
        'exabgp-gatekeeper': ['server', 'validate', 'cli'],
    }[name]
    for verb in verbs:
        assert f'{name}' in page
        assert verb in page


@pytest.mark.parametrize('name', COMMANDS)
def test_bash_completes_the_verbs(name: str, manuals: Path) -> None:
    script = manuals / 'bash-completion' / name
    function = f'_shtab_{name.replace("-", "_")}'
    verb = 'valid' if name == 'exabgp-gatekeeper' else 'doc'
    asked = (
        f'source {script}; COMP_WORDS=({name} {verb}); COMP_CWORD=1; {function}; '
        'echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ['bash', '-c', asked], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.split()[0].startswith(verb)


@pytest.mark.parametrize('name', COMMANDS)
def test_zsh_has_a_completion_of_the_command(name: str, manuals: Path) -> None:
    assert (manuals / 'zsh' / f'_{name}').read_text().startswith(f'#compdef {name}')
