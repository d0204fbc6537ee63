"""Rekey without a flap: make before break, on one live connection.

The order of steps, on each side:

(a) the responder installs the successor, then answers; the initiator installs it on the answer
    and sets its RNext to it;
(b) the responder sets its RNext when its Current has become the successor: the peer's RNextKeyID
    is the proof that the answer arrived. Neither side sets Current;
(c) a side is done when Current and RNext are the successor and one segment under it was good;
(d) when done, the exchange's initiator, and only it, sends DELETE for the old MKT. Each side
    removes the old one 60 s (or a tenth of its lifetime) after that was answered or at its hard
    lifetime, once done itself;
(e) bad segments and no good one, or not done in time: RNext back to the old MKT, and when Current
    is back too the successor is deleted. The session stays on the old MKT;
(f) at the old one's hard lifetime a completed successor is switched to by force.

While it runs, keepalive probes move both pointers, so idle sessions rotate too (RFC 5925 7.5).
"""

from __future__ import annotations

from gatekeeper.engine import ending
from gatekeeper.reporting.events import EventName
from gatekeeper.reporting.explanations import Explanation, heaviest
from gatekeeper.reporting.reasons import Reason
from gatekeeper.state.connection import Connection, Phase
from gatekeeper.state.deadlines import Due
from gatekeeper.state.limits import (
    READS,
    RETRY_REMOVE,
    STALLED_READ,
)
from gatekeeper.state.mkt_record import MktRecord, MktState, VolumeStage
from gatekeeper.state.rotation import Rotation
from gatekeeper.state.store import Store
from tcpao.installer import (
    Cause,
    Failed,
    KeyCounters,
    KeyState,
    Probe,
    Read,
    Remove,
    SetRNext,
    Where,
)


def begin(state: Store, conn: Connection, new: MktRecord, now: float) -> None:
    """Bring the successor into use, which is installed at both ends, as far as we know."""
    rotation = conn.rotation = Rotation(new, now)
    state.command(Probe(conn.pair, on=True))
    if new.initiator:
        rotation.rnext_moved = True
        state.command(SetRNext(new.key))
    _read_later(state, conn, rotation, now)
    state.deadlines.set(Due.GRACE, conn, now + conn.keys.grace(now))
    conn.keys.begins(rotation)


def _read_later(state: Store, conn: Connection, rotation: Rotation, now: float) -> None:
    wait = READS[min(rotation.reads, len(READS) - 1)] if not rotation.stalled else STALLED_READ
    rotation.reads += 1
    state.deadlines.set(Due.READ, conn, now + wait)


def read(state: Store, conn: Connection, seen: KeyState, now: float) -> None:
    """Read how far traffic has changed to the successor."""
    rotation = conn.rotation
    if rotation is None:
        return
    new = rotation.new
    if rotation.rolling_back:
        _read_back(state, conn, rotation, seen, now)
        return
    counted = next(
        (key for key in seen.keys if key.send_id == new.send_id),
        KeyCounters(new.send_id, new.recv_id or 0, 0, 0),
    )
    if rotation.before is None:
        rotation.before = counted
    good = counted.good > rotation.before.good
    bad = counted.bad > rotation.before.bad
    rotation.successor_received = good
    asked = rotation.rnext_moved or seen.current == new.send_id
    if asked and seen.rnext != new.recv_id:
        rotation.rnext_moved = True
        state.command(SetRNext(new.key))
    elif (seen.current, seen.rnext) == (new.send_id, new.recv_id) and good:
        _finish(state, conn, rotation, now)
        return
    elif bad and not good and not _committed(conn):
        roll_back(state, conn, 'segments under the new key fail the MAC', now)
        return
    elif rotation.stalled and seen.current == new.send_id:
        # The peer has followed after all: an idle session needs probes to notice.
        rotation.stalled = False
        state.command(Probe(conn.pair, on=True))
        state.deadlines.set(Due.GRACE, conn, now + conn.policy.grace)
    _read_later(state, conn, rotation, now)


def _read_back(
    state: Store, conn: Connection, rotation: Rotation, seen: KeyState, now: float
) -> None:
    """Read how far traffic has returned to the old MKT."""
    old = conn.mkt_in_use
    old_good = sum(key.good for key in seen.keys if key.send_id == old.send_id)
    if rotation.old_good is None:
        rotation.old_good = old_good
    # The peer may still send under the successor. Only a segment under the old MKT shows that our
    # RNextKeyID has reached it: removed earlier, the successor would make the peer drop the probes
    # of an idle session for ever.
    if (seen.current, seen.rnext) == (old.send_id, old.recv_id) and old_good > rotation.old_good:
        _discard(state, conn, rotation, now)
    else:
        _read_later(state, conn, rotation, now)


def _committed(conn: Connection) -> bool:
    """Return True if a DELETE of the old MKT was sent or answered: no roll-back is possible."""
    return conn.mkt_in_use.deleting or conn.mkt_in_use.deleted_by_peer


def grace_over(state: Store, conn: Connection, now: float) -> None:
    """End a rotation that was not done in time (Due.GRACE)."""
    rotation = conn.rotation
    if rotation is None or rotation.rolling_back or _committed(conn):
        return
    conn.keys.stalled(now)


def roll_back(state: Store, conn: Connection, cause: str, now: float) -> None:
    """Return to the old MKT; the successor is deleted when nothing is sent under it any more."""
    rotation = conn.rotation
    assert rotation is not None
    state.warn(conn, Explanation.of(Reason.ROLLED_BACK, 'rekey', cause))
    rotation.rolling_back = True
    if rotation.rnext_moved:
        state.command(SetRNext(conn.mkt_in_use.key))
    state.command(Read(conn.pair))


def _discard(state: Store, conn: Connection, rotation: Rotation, now: float) -> None:
    _over(state, conn)
    conn.keys.discarded(rotation.new, now)


def give_up(state: Store, conn: Connection) -> None:
    """Give up a rotation: another successor is wanted, or none; the MKT in use stays."""
    _over(state, conn)
    state.command(SetRNext(conn.mkt_in_use.key))


def _over(state: Store, conn: Connection) -> None:
    conn.rotation = None
    state.deadlines.cancel(Due.READ, conn)
    state.deadlines.cancel(Due.GRACE, conn)
    state.command(Probe(conn.pair, on=False))


def _finish(state: Store, conn: Connection, rotation: Rotation, now: float) -> None:
    """Finish the rotation: the successor is the MKT in use."""
    old, new = conn.mkt_in_use, rotation.new
    _over(state, conn)
    new.move(MktState.IN_USE)
    conn.mkt_in_use = new
    conn.rekeys += 1
    conn.rekey_failures = 0
    state.errors.pop(conn.policy.key, None)
    conn.trouble = None
    conn.keys.in_use(now)
    conn.keys.superseded(old, rotation, now)


# --- removal of the old key -----------------------------------------------------------------------


def retire_at(state: Store, conn: Connection, old: MktRecord, when: float) -> None:
    """Remove `old` from the connection at `when`, or shortly before its hard lifetime."""
    state.deadlines.set(Due.RETIRE, old, min(when, old.hard_at - RETRY_REMOVE))


def retire(state: Store, old: MktRecord, now: float) -> None:
    """Remove an old MKT (Due.RETIRE)."""
    conn = state.connections.get(old.pair)
    if conn is None or old not in conn.retiring:
        return
    if now >= old.hard_at:
        # By force only now: the hard lifetime is a promise. A rotation under way sets RNext again.
        remove_by_force(state, conn, old)
    else:
        remove(state, old)


def remove_by_force(state: Store, conn: Connection, old: MktRecord) -> None:
    """Remove an MKT that traffic may use: the traffic changes to the MKT in use."""
    state.command(Remove(old.key, Where.CONNECTION, switch_to=conn.mkt_in_use.key))


def remove(state: Store, life: MktRecord) -> None:
    """Remove an MKT that nothing is sent under any more."""
    state.command(Remove(life.key, Where.CONNECTION))
    state.deadlines.set(Due.RETIRE, life, life.hard_at)


def removed(state: Store, conn: Connection, life: MktRecord) -> None:
    """Note that an old or discarded MKT is off the connection."""
    if life in conn.retiring:
        conn.retiring.remove(life)
        state.deadlines.cancel(Due.RETIRE, life)
        state.note(conn.policy, EventName.MKT_REMOVED, send_id=life.send_id, recv_id=life.recv_id)
        life.end()
        conn.keys.removed(life)


def not_removed(
    state: Store, conn: Connection, life: MktRecord, failure: Failed, now: float
) -> None:
    """Retry after EBUSY; never force before the hard lifetime."""
    if life not in conn.retiring or conn.phase is Phase.ENDING:
        return
    if isinstance(failure.command, Remove) and failure.command.switch_to is not None:
        ending.abort(state, conn, 'an expired key could not be removed', now)
    elif failure.cause is Cause.GONE:
        removed(state, conn, life)
    elif now < life.hard_at:
        state.deadlines.set(Due.RETIRE, life, min(now + RETRY_REMOVE, life.hard_at))


# --- the hard lifetime ----------------------------------------------------------------------


def successor(conn: Connection) -> MktRecord | None:
    """Return a successor that both ends have completed, as far as we know, or None."""
    rotation = conn.rotation
    if rotation is None or rotation.new.deleted_by_peer or rotation.new.ended:
        return None
    return rotation.new


def _never_came(state: Store, conn: Connection, rotation: Rotation, now: float) -> None:
    """Return to the old MKT: the successor has expired before it was in use.

    By force where traffic is changing to it.
    """
    cause = 'the new key has expired before traffic had moved to it'
    state.warn(conn, Explanation.of(Reason.ROLLED_BACK, 'rekey', cause))
    state.command(SetRNext(conn.mkt_in_use.key))
    _discard(state, conn, rotation, now)


def without_successor(conn: Connection) -> Explanation:
    """Return the explanation: the end of the key is a consequence, so name its cause."""
    cause, reason = 'hard lifetime reached without a successor', Reason.NO_SUCCESSOR
    if conn.mkt_in_use.volume_stage is VolumeStage.SPENT:
        cause = 'lifetime by volume reached without a successor'
    why = heaviest(conn.trouble, conn.ike_peer.trouble if conn.ike_peer is not None else None)
    if why is not None:
        return Explanation.of(why.reason, 'rekey', f'{cause}, since {why}')
    if conn.requested_successor is not None:
        cause = f'{cause}, since the peer has not answered the request for one'
        reason = Reason.NO_IKE_ANSWER
    return Explanation.of(reason, 'rekey', cause)


def cease(state: Store, conn: Connection, now: float) -> None:
    """End the session before the hard lifetime (Due.CEASE); not after a suspension beyond it."""
    if conn.phase is not Phase.PROVEN or now >= conn.mkt_in_use.hard_at:
        return
    why = conn.keys.ceases(now)
    if why is not None:
        state.refuse(conn.policy, why.step, why.cause, why.reason)
        ending.close(state, conn, why.cause, now)


def expired(state: Store, conn: Connection, now: float) -> None:
    """Handle the hard lifetime (Due.HARD)."""
    if conn.phase is Phase.PROVEN and not conn.keys.expires(now):
        return
    rotation, old = conn.rotation, conn.mkt_in_use
    if rotation is not None and now < old.hard_at and not _committed(conn):
        _never_came(state, conn, rotation, now)
        return
    if conn.phase is not Phase.PROVEN or rotation is None or successor(conn) is None:
        why = without_successor(conn)
        if conn.phase is Phase.PROVEN and old.limited is not None:
            why = Explanation.of(Reason.UNRENEWED, 'configuration', old.limited)
        if conn.phase is Phase.PROVEN:
            state.refuse(conn.policy, why.step, why.cause, why.reason)
        ending.abort(state, conn, why.cause, now)
        return
    rotation.rolling_back = False
    _finish(state, conn, rotation, now)
    state.deadlines.cancel(Due.RETIRE, old)
    state.command(Remove(old.key, Where.CONNECTION, switch_to=rotation.new.key))
