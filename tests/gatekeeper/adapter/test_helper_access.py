"""Folders that keep the daemon's user from running its helper."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatekeeper.adapter.helper_access import closed_to

USER, GROUPS = 65534, {65534}


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A script in a folder that every user may enter; pytest's own folders are private."""
    script = tmp_path / 'home' / 'bin' / 'script'
    script.parent.mkdir(parents=True)
    script.touch(0o755)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o001 == 0:
            folder.chmod(0o711)
    return script


def test_closed_to_finds_nothing_when_all_may_enter(script: Path) -> None:
    assert closed_to(USER, GROUPS, [script]) is None


def test_closed_to_names_the_folder_that_is_private(script: Path) -> None:
    home = script.parent.parent
    home.chmod(0o700)
    assert closed_to(USER, GROUPS, [script]) == home
    assert closed_to(home.stat().st_uid, GROUPS, [script]) is None


def test_closed_to_names_the_folder_behind_a_link(script: Path) -> None:
    home = script.parent.parent
    home.chmod(0o700)
    link = home.with_name('python')
    link.symlink_to(script)
    assert closed_to(USER, GROUPS, [link]) == home


def test_closed_to_names_the_file_that_is_private(script: Path) -> None:
    script.chmod(0o700)
    assert closed_to(USER, GROUPS, [script]) == script
