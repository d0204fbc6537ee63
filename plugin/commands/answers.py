"""Answers to an operator, in ExaBGP's command line and API.

ASCII only (ExaBGP's pipes accept nothing else), and in a later turn of its loop if the gatekeeper
is not ready.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from gatekeeper.errors import GatekeeperError
from plugin.connections import runtime
from plugin.connections.runtime import Runtime

NOTHING = 'no neighbor has an ikev2 section or a keychain'

Answer = tuple[object, list[str]]
"""The answer as JSON, and as lines of text."""
Found = TypeVar('Found')
Made = TypeVar('Made')


def then(future: Future[Found], make: Callable[[Found], Made]) -> Future[Made]:
    """Return the future of `make`'s result for this future's, or of its error."""
    made: Future[Made] = Future()

    def finish(done: Future[Found]) -> None:
        try:
            made.set_result(make(done.result()))
        except Exception as error:
            made.set_exception(error)

    future.add_done_callback(finish)
    return made


def known(found: Found) -> Future[Found]:
    """Return a future that is done already."""
    future: Future[Found] = Future()
    future.set_result(found)
    return future


def answer(
    reactor: Any, service: str, ask: Callable[[Runtime | None], Future[Answer]], use_json: bool
) -> None:
    """Send a service the answer of `ask`, of its future, or its error (GatekeeperError)."""
    running = runtime.of(reactor)
    try:
        asked = ask(running)
    except GatekeeperError as error:
        asked = Future()
        asked.set_exception(error)

    def tell() -> None:
        try:
            value, lines = asked.result()
        except GatekeeperError as error:
            value, lines = {'error': str(error)}, [f'error: {error}']
        for line in [json.dumps(value)] if use_json else lines:
            reactor.processes.write(service, ascii_only(line))
        reactor.processes.answer_done(service)

    if running is None or asked.done():
        tell()
    else:
        running.waits.later(asked, tell)


def ascii_only(text: str) -> str:
    """Return the text with characters beyond ASCII, as in an identity, escaped."""
    return text.encode('ascii', 'backslashreplace').decode()
