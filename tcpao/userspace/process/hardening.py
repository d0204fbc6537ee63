"""A process that holds keys: no core dump, no debugger, no privileges by what it executes.

Nor is it the one to end when another user has taken the host's memory.
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
    """As far as the kernel goes along; none of it is what keeps a key secret."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    forbid_dumps()
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    # Its memory has an end, and without it every session is down until the daemon's next start.
    with suppress(OSError):
        Path('/proc/self/oom_score_adj').write_text(_NEVER)


def forbid_dumps() -> None:
    """No core dump of this process, and no debugger but root's; the programs that it executes are
    as ever. A process that becomes another user has it so already (proc(5), suid_dumpable)."""
    _prctl(_PR_SET_DUMPABLE, 0)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
