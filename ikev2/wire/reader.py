"""A cursor over received octets that never reads past their end.

Everything in IKEv2 is big-endian. The only error raised here is `MalformedMessage`.
"""

from __future__ import annotations

from struct import Struct, error
from typing import Any

from ikev2.errors import MalformedMessage


class Reader:
    """Reads `data` from front to back; `what` names it in error texts."""

    __slots__ = ('_data', '_position', '_what')

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._position = 0
        self._what = what

    @property
    def remaining(self) -> int:
        """Octets not read yet."""
        return len(self._data) - self._position

    def take(self, length: int) -> bytes:
        """The next `length` octets; MalformedMessage if there are fewer."""
        end = self._position + length
        if length < 0 or end > len(self._data):
            raise self._too_short(length)
        octets = self._data[self._position : end]
        self._position = end
        return octets

    def unpack(self, layout: Struct) -> tuple[Any, ...]:
        """The next fields, which have a fixed layout; MalformedMessage if they aren't all there."""
        try:
            fields = layout.unpack_from(self._data, self._position)
        except error:
            raise self._too_short(layout.size) from None
        self._position += layout.size
        return fields

    def uint8(self) -> int:
        """One octet."""
        return self.take(1)[0]

    def rest(self) -> bytes:
        """All that is left."""
        start, self._position = self._position, len(self._data)
        return self._data[start:]

    def expect_end(self) -> None:
        """MalformedMessage if octets are left over."""
        if self.remaining:
            raise MalformedMessage(f'{self._what}: {self.remaining} octets too many')

    def _too_short(self, length: int) -> MalformedMessage:
        return MalformedMessage(f'{self._what}: {length} octets wanted, {self.remaining} are there')
