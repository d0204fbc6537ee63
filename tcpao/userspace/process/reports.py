"""Messages of the packet process on the daemon's standard error."""

from __future__ import annotations

import os
from contextlib import suppress

from tcpao.userspace.rules.interface import RulesError


def say(text: str) -> None:
    """Write a line, if standard error is still open: nothing may depend on it."""
    with suppress(OSError):
        os.write(2, f'packet process: {text}\n'.encode())


def tell_of_failure(error: RulesError | None) -> None:
    """Report that the rules could not be removed at the end."""
    if error is not None:
        say(f'rules are left behind, for the next start to remove: {error}')


def tell_of_leftovers(error: RulesError | None) -> None:
    """Report that rules could not be changed now; sessions are protected either way."""
    if error is not None:
        say(f'rules that are not needed stay for now, or an open connection has none: {error}')
