"""The rules by which a key is selected (RFC 7210 3): one query for keychains and the key table.

Pure. A key is anything with a lifetime for sending and one for accepting.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar


class Span(Protocol):
    """A time from `start` on."""

    @property
    def start(self) -> float: ...

    def covers(self, wall: float) -> bool: ...


class Timed(Protocol):
    """A key with its two lifetimes."""

    @property
    def send(self) -> Span: ...

    @property
    def accept(self) -> Span: ...


Key = TypeVar('Key', bound=Timed)


def to_accept(keys: Iterable[Key], wall: float) -> tuple[Key, ...]:
    """Return the keys that received segments may have at this time."""
    return tuple(key for key in keys if key.accept.covers(wall))


def to_send(keys: Iterable[Key], wall: float) -> Key | None:
    """Return the key to send with: the newest SendLifetimeStart, of equals the first.

    None if no key may be sent. What is sent under a key is answered under it, so it must be
    accepted too.
    """
    usable = [key for key in to_accept(keys, wall) if key.send.covers(wall)]
    return max(usable, key=lambda key: key.send.start, default=None)
