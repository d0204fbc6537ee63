"""The commands `rekey ikev2 ...`, `revoke`, `restore`, `drain`, `undrain` of ExaBGP's CLI and
API.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from exabgp.reactor.api.command.command import Command

from gatekeeper.errors import GatekeeperError
from gatekeeper.state.selection import Operation, parse_selection
from plugin.commands.answers import NOTHING, Answer, answer, then
from plugin.connections.runtime import Runtime
from plugin.patching import add

_JSON = 'json'


def name_of(operation: Operation) -> str:
    """Return the words of a command."""
    return f'{operation} ikev2'


def _command(operation: Operation) -> Callable[..., bool]:
    def run(self: Any, reactor: Any, service: str, line: str, use_json: bool) -> bool:
        words = [word for word in line.removeprefix(name_of(operation)).split() if word != _JSON]

        def ask(running: Runtime | None) -> Future[Answer]:
            if running is None:
                raise GatekeeperError(NOTHING)
            done = running.gatekeeper.operate(operation, parse_selection(words))
            return then(done, lambda text: ({'done': text}, [text]))

        answer(reactor, service, ask, use_json)
        return True

    return run


def install() -> None:
    """Register the commands."""
    tables = Command.callback
    for operation in Operation:
        name, run = name_of(operation), _command(operation)
        for kind in ('text', 'json'):
            add(tables[kind], name, run)
        add(tables['neighbor'], name, False)
        add(tables['options'], name, [_JSON])
        Command.functions.append(name)
    Command.functions.sort(reverse=True)
