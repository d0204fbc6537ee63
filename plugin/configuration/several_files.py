"""The command `server a.conf b.conf`: ExaBGP forks a daemon for each file, in one environment.

One host has one pair of UDP ports for IKE and one packet process: only one of these daemons can
protect neighbors. That is reported before any of them starts, with the files' names.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from exabgp.application import server as module
from exabgp.configuration.configuration import Configuration
from exabgp.environment import getenv
from exabgp.logger import log

from plugin.configuration.session_policies import policies_of
from plugin.patching import wrap


def _cmdline(original: Any, cmdarg: Any) -> Any:
    if len(cmdarg.configuration) > 1 and not getenv().debug.rotate:
        protecting = protecting_files(cmdarg.configuration)
        if len(protecting) > 1:
            sys.exit(
                f'exabgp-gatekeeper: {" and ".join(protecting)} protect neighbors, and one command '
                f'runs a daemon for each file, of which only one can: put the protected neighbors '
                f'into one file'
            )
    return original(cmdarg)


def protecting_files(names: Sequence[str]) -> list[str]:
    """Return the configuration files that protect neighbors.

    A file that can't be read is left out: its daemon reports the error.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        # In a child: a parser's changes to the process must not reach the daemons.
        try:
            log.silence()
            os.write(writer, ''.join('01'[_protects(name)] for name in names).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        marks = answer.read()
    os.waitpid(child, 0)
    return [name for name, mark in zip(names, marks, strict=False) if mark == '1']


def _protects(name: str) -> bool:
    path = module.getconf(name)
    if not path:
        return False
    configuration = Configuration([path])
    loaded = configuration.reload() is True
    return loaded and bool(policies_of(configuration.neighbors, configuration.ikev2_chains))


def install() -> None:
    """Patch ExaBGP's `server`."""
    wrap(module, 'cmdline', _cmdline)
