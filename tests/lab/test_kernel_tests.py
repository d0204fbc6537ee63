"""Tests that need TCP-AO, run by a pytest in the guest and reported by the one on the host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.boots

ROOT = Path(__file__).resolve().parents[2]

PROJECT = """\
[pytest]
markers =
    kernel: needs TCP-AO
    netns: needs namespaces
"""

INNER = """\
import os
import pytest
from lab.tcpao_kernel import has_tcp_ao

def test_outside():
    pass

@pytest.mark.kernel
def test_inside():
    assert has_tcp_ao()

@pytest.mark.kernel
def test_fails():
    print('printed by the test')
    assert 1 + 1 == 3

@pytest.mark.netns
@pytest.mark.parametrize('text', ['a b', 'ü'])
def test_named(text):
    assert os.geteuid() == 0
"""

ENDS_EARLY = """\
import os
import pytest

@pytest.mark.kernel
def test_first():
    pass

@pytest.mark.kernel
def test_takes_pytest_away():
    os._exit(0)

@pytest.mark.kernel
def test_never_reached():
    pass
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / 'pytest.ini').write_text(PROJECT)
    (tmp_path / 'conftest.py').write_text("pytest_plugins = ['lab.kernel_tests']\n")
    return tmp_path


def pytest_in(project: Path, tests: str, *options: str) -> subprocess.CompletedProcess[str]:
    (project / 'test_it.py').write_text(tests)
    environment = os.environ | {'PYTHONPATH': str(ROOT), 'PYTHONDONTWRITEBYTECODE': '1'}
    return subprocess.run(
        [sys.executable, '-m', 'pytest', '-v', *options],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_both_places_are_reported_as_one_session(project: Path) -> None:
    done = pytest_in(project, INNER)
    assert done.returncode == 1
    assert '1 failed, 4 passed' in done.stdout.splitlines()[-1]
    assert 'FAILED test_it.py::test_fails' in done.stdout
    assert 'printed by the test' in done.stdout


def test_test_has_failed_when_it_left_no_report(project: Path) -> None:
    done = pytest_in(project, ENDS_EARLY)
    # Where the host has TCP-AO this is the host's pytest, and it has gone without a summary.
    assert done.returncode == 1 or '::test_never_reached' not in done.stdout
    if done.returncode:
        assert '2 failed, 1 passed' in done.stdout.splitlines()[-1]
        assert 'FAILED test_it.py::test_never_reached' in done.stdout


def test_first_failure_ends_the_session_when_asked(project: Path) -> None:
    done = pytest_in(project, INNER, '--maxfail=1')
    assert done.returncode != 0
    assert 'test_named' not in done.stdout


def test_nothing_is_left_in_the_project(project: Path) -> None:
    pytest_in(project, INNER, '-p', 'no:cacheprovider')
    assert {path.name for path in project.iterdir()} <= {
        'build',
        'conftest.py',
        'pytest.ini',
        'test_it.py',
    }
    assert not list((project / 'build').glob('*'))
