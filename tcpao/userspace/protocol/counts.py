"""Counters of the packet process in memory that the daemon reads: to look at them it waits for
nobody, however stuck the process is.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import fields
from operator import attrgetter
from struct import Struct
from typing import Final

from tcpao.userspace.wire.seal import Tally

_NAMES: Final = tuple(field.name for field in fields(Tally))
_FORMAT: Final = Struct(f'={len(_NAMES)}Q')
_values: Final = attrgetter(*_NAMES)


class SharedCounts:
    """One page that both processes have. Each counter is written as a whole; those of one moment
    may be of two turns."""

    def __init__(self, descriptor: int | None = None) -> None:
        """The one behind a descriptor, or a new one."""
        made = descriptor is None
        self.descriptor: Final = os.memfd_create('counts') if descriptor is None else descriptor
        if made:
            os.ftruncate(self.descriptor, _FORMAT.size)
        self._memory = mmap.mmap(self.descriptor, _FORMAT.size)

    def write(self, tally: Tally) -> None:
        """As the process has counted."""
        _FORMAT.pack_into(self._memory, 0, *_values(tally))

    def read(self) -> Tally:
        """As it was last written."""
        return Tally(*_FORMAT.unpack_from(self._memory))

    def close(self) -> None:
        """Give the descriptor back; what was counted stays to be read."""
        os.close(self.descriptor)
