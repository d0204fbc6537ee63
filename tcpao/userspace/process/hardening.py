"""A process that holds keys: no core dump, no debugger, no privileges by what it executes."""

from __future__ import annotations

import ctypes
import resource
from typing import Final

_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38


def harden() -> None:
    """As far as the kernel goes along; none of it is what keeps a key secret."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    forbid_dumps()
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def forbid_dumps() -> None:
    """No core dump of this process, and no debugger but root's; the programs that it executes are
    as ever. A process that becomes another user has it so already (proc(5), suid_dumpable)."""
    _prctl(_PR_SET_DUMPABLE, 0)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
