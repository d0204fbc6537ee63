"""Secret octets that never print, are compared in constant time and can be wiped.

Python copies immutable bytes freely, so wiping is best effort: it clears the copy held here.
What the type guarantees is that no log, exception, `show`, pickle or debugger-friendly repr of
an object that contains a Secret discloses it by accident: the only way out is `reveal()`.
"""

from __future__ import annotations

import hmac
from typing import NoReturn


class Secret:
    """Secret octets; `reveal()` is the only way to read them.

    Raises TypeError if made of anything but octets, ValueError on `reveal()` after `wipe()`.
    """

    __slots__ = ('_octets', '_wiped')

    def __init__(self, octets: bytes | bytearray | memoryview) -> None:
        # bytearray(7) would make seven octets of zero.
        if not isinstance(octets, (bytes, bytearray, memoryview)):
            raise TypeError(f'a Secret is made of octets, not of {type(octets).__name__}')
        self._octets = bytearray(octets)
        self._wiped = False

    def reveal(self) -> bytes:
        """Return the octets, for a primitive or a system call only: never keep or format them."""
        if self._wiped:
            raise ValueError('this secret was wiped')
        return bytes(self._octets)

    def wipe(self) -> None:
        """Overwrite the octets; a second call changes nothing."""
        self._octets[:] = bytes(len(self._octets))
        self._wiped = True

    @property
    def wiped(self) -> bool:
        """Return True once `wipe()` was called."""
        return self._wiped

    def __len__(self) -> int:
        return len(self._octets)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        # A wiped secret is all zero: it must not equal another one.
        if self._wiped or other._wiped:
            return self is other
        return hmac.compare_digest(self._octets, other._octets)

    # Equal secrets must not be found by their place in a dictionary or set.
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f'<Secret of {len(self._octets)} octets>'

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError('a Secret is never serialised')

    def __copy__(self) -> Secret:
        return self

    # A routing daemon may deep-copy its neighbors; a copy that outlives wipe() would defeat it.
    def __deepcopy__(self, memo: object) -> Secret:
        return self
