"""The place of the demo: this host or a User Mode Linux, and the backend that protects."""

from __future__ import annotations

from dataclasses import dataclass

from lab.tcpao_backend import OPTION
from lab.tcpao_kernel import has_tcp_ao
from tcpao.backend import Preference

IN_GUEST = 'in a User Mode Linux, whose kernel has TCP-AO'
IN_USER_SPACE = 'packets protected in user space'


@dataclass(frozen=True, slots=True)
class Where:
    """The kernel and backend of the stage as a text, and whether it is a guest."""

    words: str
    guest: bool


class NowhereError(Exception):
    """The requested place is not available on this host; the message says what to try."""


def decide(wanted: Preference, *, guest: bool) -> Where:
    """Choose where the stage runs. `guest`: a User Mode Linux rather than a kernel without TCP-AO.

    Raises NowhereError. Only the stage can tell whether packets can be protected in user space: see
    `instead`.
    """
    able = has_tcp_ao()
    if able and wanted is not Preference.USERSPACE:
        return Where("on this host's kernel, which has TCP-AO", guest=False)
    if guest and not able:
        asked = f', but with {IN_USER_SPACE}' if wanted is Preference.USERSPACE else ''
        return Where(f'{IN_GUEST}{asked}', guest=True)
    if wanted is Preference.KERNEL:
        raise NowhereError(
            "this host's kernel has no TCP-AO (Linux 6.7 with CONFIG_TCP_AO): "
            f"`make demo DEMO=--guest` runs the demo under one that has, DEMO='{OPTION} "
            f"{Preference.USERSPACE}' here without"
        )
    has = 'has TCP-AO, but with' if able else 'has no TCP-AO:'
    return Where(f"on this host's kernel, which {has} {IN_USER_SPACE}", guest=False)


def instead(wanted: Preference, reason: str) -> Where:
    """Choose another place, when packets can't be protected in user space here.

    Raises NowhereError.
    """
    if wanted is Preference.USERSPACE:
        raise NowhereError(f'{reason}; `make demo DEMO=--guest` runs the demo elsewhere')
    return Where(f'{IN_GUEST}, since here {reason}', guest=True)
