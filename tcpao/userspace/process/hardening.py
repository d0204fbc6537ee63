"""Protection of a process that holds keys: no core dump, no debugger, no privileges by programs it
runs.

The kernel does not kill it either when another user has taken the host's memory.
"""

from __future__ import annotations

import ctypes
import resource
from contextlib import suppress
from pathlib import Path
from typing import Final

_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_NEVER: Final = '-1000'
"""OOM_SCORE_ADJ_MIN (proc_pid_oom_score_adj(5))."""


def harden() -> None:
    """Set what the kernel allows; the secrecy of keys does not depend on it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    forbid_dumps()
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    # Its memory is bounded, and without this process every session is down until the daemon's next
    # start.
    with suppress(OSError):
        Path('/proc/self/oom_score_adj').write_text(_NEVER)


def forbid_dumps() -> None:
    """Forbid core dumps of this process, and debuggers of other users than root.

    Programs that it runs are not affected. A process that becomes another user is protected already
    (proc(5), suid_dumpable).
    """
    _prctl(_PR_SET_DUMPABLE, 0)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
