"""The check that a user without privileges may run the programs of this process again.

A routing daemon that gives up its privileges starts helper processes as its new user. A Python
below the home directory of root (pyenv, uv) can't be run by that user.
"""

from __future__ import annotations

import stat
from collections.abc import Collection, Iterable
from os import stat_result
from pathlib import Path


def closed_to(user: int, groups: Collection[int], files: Iterable[Path]) -> Path | None:
    """Return the first folder or file on the way to `files` that the user may not use, or None.

    Judges permission bits, without access control lists. Unreadable entries are skipped.
    """
    for file in files:
        for path in (file, file.resolve()):
            for step in (*reversed(path.absolute().parents), path):
                try:
                    status = step.stat()
                except OSError:
                    continue
                if not _permits(status, user, groups):
                    return step
    return None


def _permits(status: stat_result, user: int, groups: Collection[int]) -> bool:
    """Search permission for a folder, read permission for a file."""
    owner, of_group, others = (
        (stat.S_IXUSR, stat.S_IXGRP, stat.S_IXOTH)
        if stat.S_ISDIR(status.st_mode)
        else (stat.S_IRUSR, stat.S_IRGRP, stat.S_IROTH)
    )
    if status.st_uid == user:
        return bool(status.st_mode & owner)
    return bool(status.st_mode & (of_group if status.st_gid in groups else others))
