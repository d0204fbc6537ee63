"""Negotiated keys on one connection: their deadlines, and the end of those not in use any more.

`gatekeeper.engine.rotation` brings a successor into use, like a key of a keychain; it asks
`NegotiatedKeys` for the differences. Here a key that is given up is deleted at the peer as well,
and the hard lifetime is a promise to it.
"""

from __future__ import annotations

from dataclasses import dataclass

from gatekeeper.engine import ending, rotation
from gatekeeper.engine.negotiated import volume
from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.reporting.explanations import Explanation
from gatekeeper.reporting.reasons import BY_INSTALLER, Reason
from gatekeeper.state.connection import Connection, Phase
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
from tcpao.installer import Failed, KeyCounters, KeyState, SetRNext
from tcpao.mkt import Mkt


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
        """Begin to watch a volume; IKE tells of every other change."""
        volume.watch(self._state, self._conn, now)

    def permits(self, policy: SessionPolicy) -> bool:
        """Return True if peer and algorithm in use are permitted.

        Before the connection is proven, the whole PAD entry must be the same.
        """
        conn, mkt = self._conn, self._conn.mkt_in_use.mkt
        if policy.pad is None or policy.pad.name != conn.peer.pad.name:
            return False
        return (
            (conn.phase is Phase.PROVEN or policy.pad == conn.policy.pad)
            and policy.tcp_options == conn.policy.tcp_options
            and (mkt is None or mkt.algorithm.name in policy.algorithms)
        )

    def clear_failures(self) -> None:
        """Change nothing: a failed rekey has its deadline."""

    def installed(self, life: MktRecord, now: float) -> None:
        """Go on: a successor, ours or the peer's, is on the connection."""
        state, conn = self._state, self._conn
        life.move(MktState.INSTALLED)
        state.note_installed(conn, life)
        if life.token is not None:
            token, life.token = life.token, None
            if not state.endpoint.answer(token, now):
                # The peer can't have it: its IKE SA has ended in the meantime.
                drop_successor(state, conn, life, now)
                return
        if life in (conn.requested_successor, conn.peers_successor):
            go_on(state, conn, now)

    def not_installed(self, life: MktRecord, failure: Failed, now: float) -> None:
        """Tell the peer at once: by a refusal of its request, or by a DELETE after ours."""
        state, conn = self._state, self._conn
        if life is conn.peers_successor:
            conn.peers_successor = None
        elif life is conn.requested_successor:
            conn.requested_successor = None
        else:
            return
        reason = BY_INSTALLER.get(failure.cause, Reason.KEY_REFUSED)
        why = Explanation.of(reason, 'rekey', f'key refused: {failure.text}')
        state.warn(conn, why)
        if life.token is not None:
            ending.refuse_waiting(state, life, now)
            state.release(conn.peer, life)
        else:
            state.delete(conn.peer, [life], now)
        life.end(MktState.FAILED)
        go_on(state, conn, now)

    def judge(self, seen: KeyState, now: float) -> str | None:
        """Return the objection to the socket being protected by the key made for it."""
        mkt = self._conn.mkt_in_use.key
        if seen.current is None or not seen.keys:
            return 'the socket has no TCP-AO'
        if not any((key.send_id, key.recv_id) == (mkt.send_id, mkt.recv_id) for key in seen.keys):
            return 'the socket does not hold the key that was negotiated for it'
        if (seen.current, seen.rnext) != (mkt.send_id, mkt.recv_id):
            return (
                f'the socket came up under another key: Current {seen.current}, RNext '
                f'{seen.rnext}, negotiated {mkt.send_id} and {mkt.recv_id}'
            )
        return None

    def keys(self) -> tuple[Mkt, ...]:
        """Return the key in use only."""
        return (self._conn.mkt_in_use.key,)

    @property
    def awaits_one_syn(self) -> bool:
        """Return True for an accepted connection: its key is on the listener for its SYN."""
        return not self._conn.opener

    def begins(self, moving: Rotation) -> None:
        """Note that nothing was received under the successor yet, and whether it ends sooner."""
        conn, new = self._conn, moving.new
        moving.before = KeyCounters(new.send_id, new.recv_id or 0, 0, 0)
        new.counted_from = conn.counted.traffic
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


def go_on(state: Store, conn: Connection, now: float) -> None:
    """Go on after one of at most two exchanges for a successor has ended.

    Wait for the other one, bring one into use, or try again.
    """
    ours, theirs = conn.requested_successor, conn.peers_successor
    if conn.rotation is not None:
        return
    if any(life is not None and life.state is not MktState.INSTALLED for life in (ours, theirs)):
        # A side does not set RNext while its own request for the same MKT is unanswered.
        return
    conn.requested_successor = None
    if ours is not None and theirs is not None and ours.lowest_nonce < theirs.lowest_nonce:
        # Crossing: the exchange with the lowest of the four nonces is deleted by its initiator.
        discard(state, conn, ours, now)
        ours = None
    if ours is not None:
        # The peer's, if there is one, stays in `peers_successor` until its initiator deletes it.
        rotation.begin(state, conn, ours, now)
    elif theirs is not None:
        conn.peers_successor = None
        rotation.begin(state, conn, theirs, now)
    else:
        again(state, conn, now)


def drop_successor(state: Store, conn: Connection, life: MktRecord, now: float) -> None:
    """Discard a successor outside a rotation that the peer has deleted.

    It lost against the other one, or could not be installed there. Nothing was sent under it.
    """
    if life is conn.peers_successor:
        conn.peers_successor = None
    else:
        conn.requested_successor = None
    discard(state, conn, life, now)
    go_on(state, conn, now)


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
