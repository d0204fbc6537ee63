"""A cursor over received octets that never reads past their end.

All numbers in IKEv2 are big-endian. The only error raised here is `MalformedMessage`.
"""

from __future__ import annotations

from struct import Struct, error
from typing import Any

from ikev2.errors import MalformedMessage


class Reader:
    """Reader of `data` from front to back; `what` names the data in error texts."""

    __slots__ = ('_data', '_position', '_what')

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._position = 0
        self._what = what

    @property
    def remaining(self) -> int:
        """Return the number of octets not read yet."""
        return len(self._data) - self._position

    def take(self, length: int) -> bytes:
        """Return the next `length` octets. Raises MalformedMessage if there are fewer."""
        end = self._position + length
        if length < 0 or end > len(self._data):
            raise self._too_short(length)
        octets = self._data[self._position : end]
        self._position = end
        return octets

    def unpack(self, layout: Struct) -> tuple[Any, ...]:
        """Return the next fields, which have a fixed layout.

        Raises MalformedMessage if fewer octets are left.
        """
        try:
            fields = layout.unpack_from(self._data, self._position)
        except error:
            raise self._too_short(layout.size) from None
        self._position += layout.size
        return fields

    def uint8(self) -> int:
        """Return one octet."""
        return self.take(1)[0]

    def rest(self) -> bytes:
        """Return all octets that are left."""
        start, self._position = self._position, len(self._data)
        return self._data[start:]

    def expect_end(self) -> None:
        """Check that no octets are left. Raises MalformedMessage if there are some."""
        if self.remaining:
            raise MalformedMessage(f'{self._what}: {self.remaining} octets too many')

    def _too_short(self, length: int) -> MalformedMessage:
        return MalformedMessage(f'{self._what}: {length} octets wanted, {self.remaining} are there')
