"""A check that a daemon without its privileges can still read this project.

ExaBGP becomes `nobody` and goes on importing modules and starting helpers; an interpreter or an
environment below a private home is not readable then.
"""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterable
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def unreadable(paths: Iterable[Path]) -> Path | None:
    """Return the first folder on the way to one of these paths that others may not enter, or
    None.
    """
    for path in paths:
        for folder in reversed((path, *path.parents)):
            if not folder.stat().st_mode & stat.S_IXOTH:
                return folder
    return None


def daemon_environment() -> dict[str, str]:
    """Return ExaBGP's environment: empty, or the setting to stay root, which is reported."""
    needed = (sys.prefix, sys.base_prefix, sys.executable)
    obstacle = unreadable([PROJECT, *(Path(path).resolve() for path in needed)])
    if obstacle is None:
        return {}
    print(
        f'note: others may not enter {obstacle}, so ExaBGP stays root here instead of becoming '
        'nobody',
        file=sys.stderr,
    )
    return {'exabgp_daemon_user': 'root'}
