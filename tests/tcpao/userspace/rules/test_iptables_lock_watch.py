"""Events of a lock file that others open, close, remove and replace."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tcpao.userspace.rules.iptables_lock_watch import LockWatch
from tests.descriptors import descriptors


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / 'xtables.lock'


@pytest.fixture
def watch(lock: Path) -> Iterator[LockWatch]:
    with closing(LockWatch(str(lock))) as watching:
        yield watching


def take(lock: Path) -> int:
    """Take the lock as iptables does."""
    return os.open(lock, os.O_RDONLY | os.O_CREAT, 0o600)


def readable(watch: LockWatch) -> bool:
    return bool(select.select([watch], [], [], 0)[0])


def test_lock_is_made_as_iptables_would_when_it_is_missing(watch: LockWatch, lock: Path) -> None:
    assert lock.stat().st_mode & 0o777 == 0o600
    assert lock.stat().st_size == 0
    assert not readable(watch), 'that was us'


def test_watch_notices_when_a_lock_is_released(watch: LockWatch, lock: Path) -> None:
    descriptor = take(lock)
    assert not readable(watch), 'whoever holds it has not changed anything yet'
    os.close(descriptor)
    assert readable(watch)
    assert watch.removals()
    assert not readable(watch)
    assert not watch.removals(), 'once'


def test_watch_notices_many_releases_together(watch: LockWatch, lock: Path) -> None:
    for _ in range(100):
        os.close(take(lock))
    assert watch.removals()
    assert not watch.removals()


def test_watch_passes_over_other_events_of_the_folder(watch: LockWatch, lock: Path) -> None:
    lock.with_name('other').write_text('')
    assert not readable(watch)


def test_removed_lock_is_watched_when_it_comes_back(watch: LockWatch, lock: Path) -> None:
    lock.unlink()
    assert watch.removals(), 'nobody knows what was missed'
    assert lock.exists()
    watch.removals()
    os.close(take(lock))
    assert watch.removals()


def test_replaced_lock_is_watched(watch: LockWatch, lock: Path) -> None:
    other = lock.with_name('other')
    other.touch()
    other.replace(lock)
    assert watch.removals()
    while watch.removals():
        pass
    os.close(take(lock))
    assert watch.removals()


def test_moved_lock_is_made_anew(watch: LockWatch, lock: Path) -> None:
    lock.rename(lock.with_name('old'))
    assert watch.removals()
    os.close(take(lock))
    assert watch.removals()


def test_watch_is_refused_when_there_is_no_folder(tmp_path: Path) -> None:
    before = descriptors()
    with pytest.raises(FileNotFoundError, match='nowhere/lock'):
        LockWatch(str(tmp_path / 'nowhere' / 'lock'))
    assert descriptors() == before


def test_watch_ends_with_an_error_when_its_folder_goes(tmp_path: Path) -> None:
    folder = tmp_path / 'run'
    folder.mkdir()
    with closing(LockWatch(str(folder / 'lock'))) as watch:
        (folder / 'lock').unlink()
        folder.rmdir()
        with pytest.raises(FileNotFoundError):
            watch.removals()
