"""Proof that a connected socket is protected by the very MKT that was negotiated for its pair.

Read the socket's keys, judge, remove the inherited ones, read again. Nothing else may let BGP write
an octet.
"""

from __future__ import annotations

from gatekeeper.engine import ending, evidence
from gatekeeper.engine.keychains import sessions as chains
from gatekeeper.engine.negotiated import accepting
from gatekeeper.errors import GateError
from gatekeeper.reporting.events import EventName
from gatekeeper.reporting.explanations import UNSEEN
from gatekeeper.reporting.reasons import Reason
from gatekeeper.state.connection import Connection, Phase, Waiter
from gatekeeper.state.deadlines import Due
from gatekeeper.state.limits import PROOF_WITHIN
from gatekeeper.state.mkt_record import MktState
from gatekeeper.state.store import Store
from tcpao.installer import KeyState, Prune, Read, Remove, Where
from tcpao.mkt import SocketPair


def prove(state: Store, pair: SocketPair, waiter: Waiter, now: float) -> None:
    """Begin the proof: TCP is established on `pair`; nothing has been sent on it."""
    conn = state.connections.get(pair) or chains.accept(state, pair, now)
    if conn is None or conn.phase is not Phase.WAITING:
        phase = f'it is {conn.phase}' if conn is not None else 'no MKT was negotiated for it'
        state.note(
            conn.policy if conn is not None else None,
            EventName.REFUSED,
            step='proof',
            cause=phase,
            hint=state.fill(Reason.UNPROVEN.hint),
            reason=Reason.UNPROVEN.word,
            pair=pair,
            neighbor=pair.remote,
        )
        if conn is None or not conn.has_socket:
            state.strays[pair] += 1
        waiter.fail(GateError(f'connection {pair} is refused: {phase}'))
        return
    conn.phase = Phase.PROVING
    conn.waiter = waiter
    conn.pruned = False
    state.deadlines.cancel(Due.SYN, conn)
    state.deadlines.cancel(Due.SYN_ANSWER, conn)
    state.deadlines.set(Due.HARD, conn, conn.mkt_in_use.hard_at)
    state.deadlines.set(Due.PROOF, conn, now + PROOF_WITHIN)
    state.command(Read(pair))


def read(state: Store, conn: Connection, seen: KeyState, now: float) -> None:
    """Judge the socket's state, which has arrived."""
    against = conn.keys.judge(seen, now)
    kept = conn.keys.keys()
    reason = Reason.PROOF_FAILED
    if (against is None or seen.current is None) and evidence.is_missing(seen, opener=conn.opener):
        against, reason = UNSEEN, Reason.UNSEEN
    ids = {(mkt.send_id, mkt.recv_id) for mkt in kept}
    if against is not None and conn.keys.awaits_one_syn:
        _close_unknown(state, conn, against, reason, now)
    elif against is not None:
        refuse(state, conn, against, now, reason)
    elif all((key.send_id, key.recv_id) in ids for key in seen.keys):
        _proven(state, conn, now)
    elif conn.pruned:
        refuse(state, conn, 'keys of other sessions could not be removed', now)
    else:
        conn.pruned = True
        mkt = conn.mkt_in_use.key
        state.command(Prune(mkt, tuple(other for other in kept if other != mkt)))
        state.command(Read(conn.pair))


def _proven(state: Store, conn: Connection, now: float) -> None:
    life = conn.mkt_in_use
    conn.phase = Phase.PROVEN
    conn.since = now
    state.deadlines.cancel(Due.PROOF, conn)
    life.move(MktState.IN_USE)
    if life.on_listener:
        # A key that stays on the listener lets a recorded connection be replayed (SYN cookies).
        life.on_listener = False
        state.command(Remove(life.key, Where.LISTENER))
    state.errors.pop(conn.policy.key, None)
    state.notifications.pop(conn.policy.key, None)
    if conn.ike_peer is not None:
        conn.ike_peer.trouble = None
    state.note(
        conn.policy,
        EventName.ESTABLISHED,
        pair=conn.pair,
        send_id=life.send_id,
        recv_id=life.recv_id,
        algorithm=life.key.algorithm.name,
        backend=state.backend,
    )
    conn.keys.in_use(now)
    if conn.waiter is not None:
        conn.waiter.settle(conn.policy.key, life.key)
        conn.waiter = None
    conn.keys.sync(now)


def too_late(state: Store, conn: Connection, now: float) -> None:
    """Refuse a connection that was not proven in time (Due.PROOF)."""
    refuse(state, conn, 'the socket could not be read in time', now)


def end_bypassed(state: Store, pair: SocketPair, now: float) -> None:
    """End a connection whose octets have bypassed the backend; it has been reset already."""
    conn = state.connections.get(pair)
    if conn is not None:
        refuse(state, conn, UNSEEN, now, Reason.UNSEEN)


def refuse(
    state: Store, conn: Connection, cause: str, now: float, reason: Reason = Reason.PROOF_FAILED
) -> None:
    """Refuse a connection: the daemon closes it without an octet when it reads the ticket."""
    _fail(state, conn, cause, reason)
    ending.abort(state, conn, cause, now)


def _close_unknown(state: Store, conn: Connection, cause: str, reason: Reason, now: float) -> None:
    """Close an accepted connection that is older than this MKT, whose SYN may still come."""
    _fail(state, conn, cause, reason)
    state.strays[conn.pair] += 1
    state.deadlines.cancel(Due.PROOF, conn)
    state.deadlines.cancel(Due.HARD, conn)
    conn.phase = Phase.WAITING
    accepting.wait_for_syn(state, conn, now)


def _fail(state: Store, conn: Connection, cause: str, reason: Reason) -> None:
    error = state.refuse(conn.policy, 'proof', cause, reason)
    waiter, conn.waiter = conn.waiter, None
    if waiter is not None:
        waiter.fail(error)
