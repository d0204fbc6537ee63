"""The iptables commands: a change of the table `mangle` as one transaction, and what they say."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from typing import Final

from tcpao.userspace.rules.interface import Kind, RulesError
from tcpao.userspace.rules.iptables_lock_watch import LOCK_FILE

PREFIX: Final = {4: 'iptables', 6: 'ip6tables'}
# Seconds that a command waits for the xtables lock. A change of keys fails soon, since the daemon
# waits for it during a load; restoring or removing rules is worth a longer wait.
SOON: Final = 2
LONG: Final = 20
_PATIENCE: Final = 30.0
TABLE: Final = 'mangle'
# Daemons often have no /usr/sbin in their path.
ENVIRONMENT: Final = {
    'PATH': f'{os.environ.get("PATH", "")}:/usr/sbin:/sbin',
    'LC_ALL': 'C',
    'XTABLES_LOCKFILE': LOCK_FILE,
}


def command_of(kind: Kind, version: int) -> str:
    return kind.value.replace('iptables', PREFIX[version])


def restore(
    kind: Kind, version: int, lines: Iterable[str], chain: str | None = None, patience: int = LONG
) -> None:
    made = [f':{chain} - [0:0]'] if chain is not None else []
    text = '\n'.join([f'*{TABLE}', *made, *lines, 'COMMIT', ''])
    run(f'{command_of(kind, version)}-restore', ['--noflush', '-w', str(patience)], text)


def run(command: str, arguments: list[str], text: str) -> str:
    try:
        done = subprocess.run(
            [command, *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            env=ENVIRONMENT,
            check=False,
        )
    except FileNotFoundError:
        raise RulesError(f'{command} is not installed') from None
    except OSError as error:
        raise RulesError(f'{command} cannot be run: {error.strerror}') from None
    except subprocess.TimeoutExpired:
        raise RulesError(f'{command} did not end within {_PATIENCE:g} s') from None
    if done.returncode:
        said = ' '.join(line for line in done.stderr.splitlines() if line.strip())
        raise RulesError(f'{command} said: {said[:300] or done.returncode}')
    return done.stdout
