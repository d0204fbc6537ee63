"""The interface of what makes the keys of one connection: IKE, or a keychain of an operator.

Every key is brought into use, proven and removed in the same way, by `gatekeeper.engine`; what
differs is asked here. An implementation belongs to one connection.
"""

from __future__ import annotations

from typing import Protocol

from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.reporting.explanations import Explanation
from gatekeeper.state.mkt_record import MktRecord
from gatekeeper.state.rotation import Rotation
from tcpao.installer import Failed, KeyState
from tcpao.mkt import Mkt


class KeySource(Protocol):
    """The keys of one connection, as their maker sees them."""

    def mkts(self) -> list[MktRecord]:
        """Return the MKTs that it holds in addition to those of every connection."""

    def number_of(self, life: MktRecord) -> int | None:
        """Return the number that operators know this key by, if it has one."""

    def has_ended_key(self, wall: float) -> bool:
        """Return True if a key was on the socket beyond an end that it has at this time (UTC)."""

    def sync(self, now: float) -> None:
        """Make the connection's keys what they must be now."""

    def permits(self, policy: SessionPolicy) -> bool:
        """Return True if a new policy, with the same addresses, lets the connection continue."""

    def clear_failures(self) -> None:
        """Forget failures: a load of the configuration may have corrected them."""

    # --- installation and proof ---------------------------------------------------------------

    def installed(self, life: MktRecord, now: float) -> None:
        """Go on: a key is on the connection in addition to others."""

    def not_installed(self, life: MktRecord, failure: Failed, now: float) -> None:
        """Report a key that was refused; the session goes on without it."""

    def judge(self, seen: KeyState, now: float) -> str | None:
        """Return the objection to the socket being protected; None if there is none."""

    def keys(self) -> tuple[Mkt, ...]:
        """Return the MKTs that a proven socket may have."""

    @property
    def awaits_one_syn(self) -> bool:
        """Return True if the first key is for one SYN, which may still come when a socket without
        it is found to be there.
        """

    # --- a successor --------------------------------------------------------------------------

    def begins(self, moving: Rotation) -> None:
        """Note that this rotation has begun."""

    def grace(self, now: float) -> float:
        """Return the seconds that traffic has to change keys."""

    def stalled(self, now: float) -> None:
        """Decide what follows when the peer hasn't changed to the successor in time."""

    def discarded(self, new: MktRecord, now: float) -> None:
        """Note that this successor is given up; the session is back on the old key."""

    def superseded(self, old: MktRecord, finished: Rotation, now: float) -> None:
        """Note that its successor is in use: decide how long the old key stays."""

    # --- deadlines ----------------------------------------------------------------------------

    def in_use(self, now: float) -> None:
        """Set the deadlines of the MKT in use; also if that has changed."""

    def ceases(self, now: float) -> Explanation | None:
        """Return why the session must end with its key, shortly before that; None if it need
        not.
        """

    def expires(self, now: float) -> bool:
        """Return False if the key in use may stay for another moment at its hard lifetime."""

    def removed(self, life: MktRecord) -> None:
        """Note that an old or discarded key is off the connection."""
