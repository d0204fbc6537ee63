"""The record of a rotation, from a successor that is installed to one that is in use."""

from __future__ import annotations

from dataclasses import dataclass

from gatekeeper.state.mkt_record import MktRecord
from tcpao.installer import KeyCounters


@dataclass(slots=True, eq=False)
class Rotation:
    """A successor on its way into use on one connection."""

    new: MktRecord
    answered_at: float
    reads: int = 0
    rnext_moved: bool = False
    rolling_back: bool = False
    old_good: int | None = None
    """While rolling back: good segments under the old MKT at the first reading."""
    before: KeyCounters | None = None
    """The counters of the successor before the rotation; a manual key may have been in use
    already."""
    successor_received: bool = False
    """True once the peer has sent good segments under the successor."""
    stalled: bool = False
    """True if the peer has not followed in time to a manual key; it is given unlimited time
    then."""
    old_deleted_at: float | None = None
    """When we answered the DELETE of the old MKT."""
