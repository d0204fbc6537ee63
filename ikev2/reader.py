"""A cursor over received octets that never reads past their end.

Everything in IKEv2 is big-endian. The only error raised here is `MalformedMessage`.
"""

from __future__ import annotations

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
            raise MalformedMessage(
                f'{self._what}: {length} octets wanted, {self.remaining} are there'
            )
        octets = self._data[self._position : end]
        self._position = end
        return octets

    def uint8(self) -> int:
        """One octet."""
        return self.take(1)[0]

    def uint16(self) -> int:
        """Two octets, big-endian."""
        return int.from_bytes(self.take(2), 'big')

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.remaining)

    def expect_end(self) -> None:
        """MalformedMessage if octets are left over."""
        if self.remaining:
            raise MalformedMessage(f'{self._what}: {self.remaining} octets too many')
