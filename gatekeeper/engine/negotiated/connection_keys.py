"""Negotiated keys on one connection: their deadlines, and the end of those not in use any more.

`gatekeeper.engine.rotation` brings a successor into use, like a key of a keychain; it asks
`NegotiatedKeys` for the differences. Here a key that is given up is deleted at the peer as well,
and the hard lifetime is a promise to it.
"""

from __future__ import annotations

from dataclasses import dataclass

from gatekeeper.engine import ending, rotation
from gatekeeper.reporting.explanations import Explanation
from gatekeeper.state.connection import Connection
from gatekeeper.state.deadlines import Due
from gatekeeper.state.limits import (
    CEASE_BEFORE,
    LIVENESS_AT,
    REKEY_BACKOFF,
    SHORTEST_GRACE,
    backoff,
    head_start,
    lingers,
    wait_before,
)
from gatekeeper.state.mkt_record import MktRecord, MktState
from gatekeeper.state.rotation import Rotation
from gatekeeper.state.store import Store
from tcpao.installer import KeyCounters, SetRNext


@dataclass(eq=False, slots=True)
class NegotiatedKeys:
    """The negotiated keys of one connection."""

    _state: Store
    _conn: Connection

    def mkts(self) -> list[MktRecord]:
        """Return none: the connection has all."""
        return []

    def number_of(self, life: MktRecord) -> int | None:
        """Return None: a negotiated key has no number."""
        return None

    def has_ended_key(self, wall: float) -> bool:
        """Return False: all ends are hard lifetimes."""
        return False

    def sync(self, now: float) -> None:
        """Change nothing: IKE tells of each change."""

    def begins(self, moving: Rotation) -> None:
        """Note that nothing was received under the successor yet, and whether it ends sooner."""
        conn, new = self._conn, moving.new
        moving.before = KeyCounters(new.send_id, new.recv_id or 0, 0, 0)
        if new.hard_at < conn.mkt_in_use.hard_at:
            # The lifetimes were shortened in the meantime.
            self._state.deadlines.set(Due.HARD, conn, new.hard_at)

    def grace(self, now: float) -> float:
        """Return the seconds that traffic has to change keys: half of the rest is for another
        attempt.
        """
        left = _must_be_done(self._conn) - now
        return min(self._conn.policy.grace, max(SHORTEST_GRACE, left / 2))

    def stalled(self, now: float) -> None:
        """Return to the old key."""
        cause = f'traffic did not move to it in {self._conn.policy.grace} s'
        rotation.roll_back(self._state, self._conn, cause, now)

    def discarded(self, new: MktRecord, now: float) -> None:
        """Delete the successor, and try again later."""
        self._state.deadlines.set(Due.HARD, self._conn, self._conn.mkt_in_use.hard_at)
        discard(self._state, self._conn, new, now)
        again(self._state, self._conn, now)

    def superseded(self, old: MktRecord, finished: Rotation, now: float) -> None:
        """Remove the old MKT once its last segments must have arrived."""
        state, conn = self._state, self._conn
        old.move(MktState.RETIRING)
        state.deadlines.cancel(Due.LIVENESS, old)
        conn.retiring.append(old)
        if finished.old_deleted_at is not None:
            rotation.retire_at(state, conn, old, finished.old_deleted_at + lingers(old.lifetime))
        else:
            rotation.retire_at(state, conn, old, old.hard_at)
        if conn.mkt_in_use.initiator:
            state.delete(conn.peer, [old], now)
        if conn.peers_successor is not None:
            # The loser of two crossing rekeys, whose initiator should have deleted it long ago.
            loser, conn.peers_successor = conn.peers_successor, None
            discard(state, conn, loser, now)

    def in_use(self, now: float) -> None:
        """Set the deadlines of the MKT in use, which IKEv2 expects its user to keep."""
        state, conn, life = self._state, self._conn, self._conn.mkt_in_use
        conn.began_last = life.initiator
        state.set_soft(conn, life)
        soft = life.soft_at - life.installed_at
        renewed = life.authenticated > conn.peer.changed_at
        begin_at = life.soft_at + (0.0 if conn.began_last else head_start(life.lifetime))
        state.deadlines.set(Due.REKEY, conn, begin_at if renewed else now)
        state.deadlines.set(Due.LIVENESS, life, life.installed_at + LIVENESS_AT * soft)
        if life.limited is None:
            state.deadlines.set(Due.CEASE, conn, life.hard_at - CEASE_BEFORE)
        state.deadlines.set(Due.HARD, conn, life.hard_at)

    def ceases(self, now: float) -> Explanation | None:
        """Return the explanation for an end without a successor."""
        conn = self._conn
        return rotation.without_successor(conn) if rotation.successor(conn) is None else None

    def expires(self, now: float) -> bool:
        """Return True: the hard lifetime is a promise to the peer."""
        return True

    def removed(self, life: MktRecord) -> None:
        """Free the ids of the MKT, in time."""
        state, peer = self._state, self._conn.peer
        if not state.deadlines.is_set(Due.IDS, life):
            # Its DELETE may never come.
            state.release_at(peer, life, life.installed_at + 2.0 * life.lifetime)
        state.release_if_over(peer, life)


def _must_be_done(conn: Connection) -> float:
    return conn.mkt_in_use.hard_at - CEASE_BEFORE


def again(state: Store, conn: Connection, now: float) -> None:
    """Retry the rekey, later each time, but sooner as the hard lifetime comes nearer."""
    wait = backoff(REKEY_BACKOFF, conn.rekey_failures, state.fraction())
    wait = min(wait, wait_before(_must_be_done(conn), now))
    conn.rekey_failures += 1
    state.deadlines.set(Due.REKEY, conn, now + wait)


def discard(state: Store, conn: Connection, life: MktRecord, now: float) -> None:
    """Remove a successor that won't be used, and delete it at the peer."""
    ending.refuse_waiting(state, life, now)
    conn.retiring.append(life)
    state.delete(conn.peer, [life], now)
    rotation.remove(state, life)


def deleted(state: Store, conn: Connection, life: MktRecord, now: float) -> None:
    """Note that the peer has deleted one of several MKTs: an old one, or one of a rotation."""
    moving = conn.rotation
    if life in conn.retiring:
        rotation.retire_at(state, conn, life, now + lingers(life.lifetime))
    elif moving is not None and life is conn.mkt_in_use:
        moving.old_deleted_at = now
        if moving.rolling_back:
            # The initiator is done: no roll-back is possible.
            moving.rolling_back = False
            moving.old_good = None
            moving.rnext_moved = True
            state.command(SetRNext(moving.new.key))
    elif moving is not None and not moving.rolling_back:
        rotation.roll_back(state, conn, 'the peer has deleted the new key', now)
