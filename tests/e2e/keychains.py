"""Keychains in the configurations of the end-to-end tests, their key files, and reloads."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from tests.e2e.router import PATIENCE, Router, within

SECRETS = {n: b'key string number %d' % n for n in range(1, 5)}
LOADED = 'loaded new configuration successfully'
NOBODY = 65534


def utc(wall: float) -> str:
    """Return a time in the form of a lifetime."""
    return datetime.fromtimestamp(wall, UTC).strftime('%Y-%m-%dT%H:%M:%SZ')


def key(router: Router, number: int, *lines: str) -> str:
    """Ids 10 and 20 above the number; the other way round at r1's neighbors."""
    ids = (number + 10, number + 20)
    send_id, recv_id = ids if router.name == 'r1' else ids[::-1]
    algorithm = 'aes-128-cmac-96' if number % 2 else 'hmac-sha-256-128'
    more = ' '.join(lines)
    return (
        f'  key {number} {{ send-id {send_id}; recv-id {recv_id}; algorithm {algorithm}; '
        f'key-file "k{number}"; {more} }}\n'
    )


def write_key(router: Router, number: int) -> None:
    """A private file of the user's that the daemon becomes: that one can read it on a reload."""
    router.write(f'k{number}', SECRETS[number] + b'\n', 0o600)
    os.chown(router.home / f'k{number}', NOBODY, -1)


def reload(
    routers: Sequence[Router],
    content: Callable[[Router], str],
    says: str = LOADED,
    *,
    asked: bool = True,
) -> None:
    """Reload them at once, and wait until the log of each says so once more; where they are to be
    `asked` something, until they can be."""
    before = {router.name: (router.log.count(says), router.cli_helper()) for router in routers}
    for router in routers:
        router.configure(content(router))
        router.signal(signal.SIGUSR1)
    for router in routers:
        count, helper = before[router.name]
        _await_log(router, says, count + 1)
        if says == LOADED and asked:
            router.await_helper(helper)


def _await_log(router: Router, text: str, count: int) -> None:
    found, told = lambda: router.log.count(text) >= count, lambda: router.told(f'{text!r} again')
    within(PATIENCE, found, told)
