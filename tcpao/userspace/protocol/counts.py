"""Counters of the packet process in memory that the daemon reads without waiting.

So the counters are available even if the process is stuck.
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
    """One page that both processes map.

    Each counter is written as a whole; two counters read at one moment may be of different moments.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        """Map the page of a descriptor, or a new one."""
        made = descriptor is None
        self.descriptor: Final = os.memfd_create('counts') if descriptor is None else descriptor
        if made:
            os.ftruncate(self.descriptor, _FORMAT.size)
        self._memory = mmap.mmap(self.descriptor, _FORMAT.size)

    def write(self, tally: Tally) -> None:
        """Write the counts of the process."""
        _FORMAT.pack_into(self._memory, 0, *_values(tally))

    def read(self) -> Tally:
        """Return the counts as last written."""
        return Tally(*_FORMAT.unpack_from(self._memory))

    def close(self) -> None:
        """Close the descriptor; the last counts stay readable."""
        os.close(self.descriptor)
