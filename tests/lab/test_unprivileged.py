"""Finding out what a daemon that dropped its privileges can't read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lab import unprivileged


@pytest.fixture
def home(tmp_path: Path) -> Path:
    # pytest's own folders are private: stand in a fresh tree, as a checkout would.
    folder = tmp_path / 'home' / 'checkout'
    folder.mkdir(parents=True)
    for path in (tmp_path, *tmp_path.parents[:2], folder, folder.parent):
        path.chmod(0o755)
    return folder


def test_open_folder_is_within_reach(home: Path) -> None:
    assert unprivileged.unreadable([home]) is None


def test_private_home_is_named(home: Path) -> None:
    home.parent.chmod(0o700)
    assert unprivileged.unreadable([home]) == home.parent


def test_daemon_stays_root_and_says_so_behind_a_private_home(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home.parent.chmod(0o700)
    # This checkout may itself lie in a private home.
    monkeypatch.setattr(unprivileged, 'PROJECT', home)
    monkeypatch.setattr(sys, 'prefix', str(home))
    assert unprivileged.daemon_environment() == {'exabgp_daemon_user': 'root'}
    assert str(home.parent) in capsys.readouterr().err
