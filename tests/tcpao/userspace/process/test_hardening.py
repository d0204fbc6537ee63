"""Restrictions of a process that holds keys, and the rights of its programs."""

from __future__ import annotations

import subprocess
import sys

import pytest

SAY = """
import ctypes, resource, subprocess, sys
from tcpao.userspace.process import hardening
libc = ctypes.CDLL(None)
ask = lambda: (libc.prctl(3, 0, 0, 0, 0), libc.prctl(39, 0, 0, 0, 0))
before = ask()
hardening.{what}()
inside = '''
import ctypes
libc = ctypes.CDLL(None)
print(*(libc.prctl(n, 0, 0, 0, 0) for n in (3, 39)))
'''
print(*before, *ask(), flush=True)
subprocess.run([sys.executable, '-c', inside], check=True)
"""
"""PR_GET_DUMPABLE, PR_GET_NO_NEW_PRIVS: before, after, and in a program that is executed."""

OOM = """
from pathlib import Path
from tcpao.userspace.process import hardening
hardening.{what}()
print(Path('/proc/self/oom_score_adj').read_text(), end='')
"""


def said_after(what: str, program: str = SAY) -> list[str]:
    command = [sys.executable, '-c', program.format(what=what)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def test_daemon_is_not_dumpable_when_it_forbids_dumps() -> None:
    assert said_after('forbid_dumps') == ['1 0 0 0', '1 0']


def test_packet_process_gains_nothing_when_it_is_hardened() -> None:
    assert said_after('harden') == ['1 0 0 1', '1 1']


@pytest.mark.kernel
def test_packet_process_stays_when_memory_is_short() -> None:
    # In the guest, for not every container has CAP_SYS_RESOURCE.
    assert said_after('harden', OOM) == ['-1000']
