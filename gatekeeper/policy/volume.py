"""A key's lifetime by volume: the segments or octets that it may protect, and the used part.

Pure. `gatekeeper.engine.negotiated.volume` acts on the answers.
"""

from __future__ import annotations

from dataclasses import dataclass

from tcpao.installer import Traffic


@dataclass(frozen=True, slots=True)
class Volume:
    """The volume that one MKT may protect, both directions together; None: no limit."""

    segments: int | None = None
    octets: int | None = None
    """Of data, without headers."""

    def share(self, used: Traffic) -> float:
        """Return the used part, 1.0 when the first of the two limits is reached."""
        shares = (
            count / limit
            for count, limit in ((used.segments, self.segments), (used.octets, self.octets))
            if limit is not None
        )
        return max(shares, default=0.0)
