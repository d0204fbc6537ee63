"""The commands say their version, run as modules too, and the wheel builds the same twice."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


def run(*command: str, cwd: Path = PROJECT, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_gatekeeper_says_its_version() -> None:
    expected = f'gatekeeper {metadata.version("exabgp-gatekeeper")}\n'
    assert run('-m', 'gatekeeper', '--version') == expected


def test_exabgp_gatekeeper_says_both_versions() -> None:
    ours, theirs = (metadata.version(name) for name in ('exabgp-gatekeeper', 'exabgp'))
    expected = f'exabgp-gatekeeper {ours}, exabgp {theirs}\n'
    assert run('-m', 'plugin', '--version') == expected


def test_plugin_runs_as_a_module_in_any_folder(tmp_path: Path) -> None:
    assert 'ExaBGP' in run('-m', 'plugin', 'version', cwd=tmp_path)


def test_licence_is_an_spdx_expression() -> None:
    text = (PROJECT / 'pyproject.toml').read_text()
    assert re.search(r'^license = "BSD-3-Clause"$', text, re.MULTILINE)
    assert 'License ::' not in text


@pytest.mark.timeout(300)
def test_wheel_has_the_same_octets_when_built_twice(tmp_path: Path) -> None:
    wheels = []
    for name in ('first', 'second'):
        out = tmp_path / name
        # Nothing of an earlier build may be in it, nor may the checkout be written to.
        source = tmp_path / f'{name}-source'
        source.mkdir()
        tracked = subprocess.run(
            ['git', 'ls-files', '-z'], cwd=PROJECT, capture_output=True, text=True, check=True
        ).stdout.split('\0')
        for file in filter(None, tracked):
            if not file.startswith(('tests/', 'build/')) and (PROJECT / file).is_file():
                (source / file).parent.mkdir(parents=True, exist_ok=True)
                (source / file).write_bytes((PROJECT / file).read_bytes())
        run('-m', 'pip', 'wheel', '-q', '--no-deps', '-w', str(out), str(source),
            SOURCE_DATE_EPOCH='1767225600')  # fmt: skip
        wheels.append(next(out.glob('*.whl')).read_bytes())
    assert wheels[0] == wheels[1]
