"""The active side: from a bound socket to an MKT on it, before the SYN.

The opener requests a new MKT for each attempt, since only the opener knows the port; a request
means "I have no connection on this socket pair".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gatekeeper.engine import ending
from gatekeeper.engine.negotiated.connection_keys import NegotiatedKeys
from gatekeeper.errors import GateError
from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.reporting.explanations import Explanation, explain
from gatekeeper.reporting.reasons import BY_INSTALLER, Reason
from gatekeeper.state.connection import Connection, Phase, Waiter
from gatekeeper.state.deadlines import Due
from gatekeeper.state.key_ids import LARGEST, NoKeyIdError
from gatekeeper.state.limits import LOOK_BEFORE, OPENING_RETRY
from gatekeeper.state.mkt_record import MktRecord, MktState
from gatekeeper.state.store import Store
from ikev2.constants import NotifyType
from ikev2.events import Cause, RpSaFailed, RpSaKeys, RpSaRequest, Selector
from tcpao.installer import Failed, Install, Where
from tcpao.mkt import SocketPair

MOST_ATTEMPTS = 3
"""Requests of one opening that KEYID_IN_USE may repeat."""

_BEFORE = 'before connect'
"""The step at which an opening fails without a question to the peer."""
_FORGOTTEN = frozenset({Cause.IKE_SA_LOST, Cause.DELETED, Cause.STOPPED})
"""Causes that mean the end of the IKE SA, and of the request with it."""


def offered(state: Store, policy: SessionPolicy) -> tuple[str, ...]:
    """Return the session's suites that this host supports."""
    return tuple(name for name in policy.algorithms if name in state.algorithms)


def selectors(conn: Connection) -> tuple[Selector, Selector]:
    """Return TSi and TSr of its MKTs, by the role in TCP: the opener's first."""
    pair = conn.pair
    ours, theirs = Selector(pair.local, pair.local_port), Selector(pair.remote, pair.remote_port)
    return (ours, theirs) if conn.opener else (theirs, ours)


def request_for(conn: Connection, life: MktRecord, suites: tuple[str, ...]) -> RpSaRequest:
    """Return the request for a new MKT."""
    policy = conn.policy
    tsi, tsr = selectors(conn)
    return RpSaRequest(
        keyid=life.send_id,
        suites=suites,
        tcp_options=policy.tcp_options,
        tsi=tsi,
        tsr=tsr,
        session_id=policy.session.encode(),
        lifetime=policy.lifetime,
        keyids_in_use=tuple(sorted(conn.keyids_refused)),
    )


def admitted(
    state: Store, session_key: str, pair: SocketPair, waiter: Waiter, now: float
) -> SessionPolicy | None:
    """Return the session that `pair` may be opened for; without one the waiter has failed."""
    policy = state.policies.get(session_key)
    step = _BEFORE
    if policy is None:
        waiter.fail(GateError(f'session {session_key}: {step}: it is not configured any more'))
        return None
    if (policy.local, policy.remote, policy.connect_port) != (
        pair.local,
        pair.remote,
        pair.remote_port,
    ):
        cause = f'the socket pair {pair} is not what the session is configured for'
        waiter.fail(state.refuse(policy, step, cause, Reason.WRONG_PAIR))
        return None
    if pair.local_port in (pair.remote_port, policy.listen_port):
        cause = f'source port {pair.local_port} is the service port'
        waiter.fail(state.refuse(policy, step, cause, Reason.SERVICE_PORT))
        return None
    old = state.connections.get(pair)
    if old is not None:
        # Its socket must be closed, or the pair could not have been bound again.
        ending.drop(state, old, now)
    return policy


def open_connection(
    state: Store, policy: SessionPolicy, pair: SocketPair, waiter: Waiter, now: float
) -> None:
    """Get a negotiated key for `pair`, whose socket is bound and closed."""
    withheld = state.why_withheld(policy)
    if withheld is not None:
        waiter.fail(state.refuse(policy, 'operator', withheld.cause, withheld.reason))
        return
    peer = state.peers[policy.entry.name]
    if not state.has_room(peer, policy):
        cause = 'too many sessions with this peer; the ids that are left are kept for rekeys'
        waiter.fail(state.refuse(policy, _BEFORE, cause, Reason.TOO_MANY_SESSIONS))
        return
    try:
        send_id = state.take_send_id(peer, pair, now)
    except NoKeyIdError as error:
        waiter.fail(state.refuse(policy, _BEFORE, str(error), Reason.ALL_IDS_TAKEN))
        return
    life = state.new_life(policy, peer, pair, send_id, initiator=True)
    conn = Connection(pair, policy, peer, opener=True, mkt_in_use=life, waiter=waiter, since=now)
    conn.keys = NegotiatedKeys(state, conn)
    state.connections[pair] = conn
    state.deadlines.set(Due.GATE, conn, now + policy.timeout)
    ask(state, conn, now)


def ask(state: Store, conn: Connection, now: float) -> None:
    """Request the MKT, with a SendID that was taken just now."""
    suites = offered(state, conn.policy)
    if not suites:
        cause = f'this host can do none of: {" ".join(conn.policy.algorithms)}'
        why = Explanation.of(Reason.NO_ALGORITHM_HERE, _BEFORE, cause)
        _give_up(state, conn, why, now)
        return
    state.ask(conn, conn.mkt_in_use, request_for(conn, conn.mkt_in_use, suites), now)


def ask_again(state: Store, conn: Connection, now: float) -> None:
    """Repeat the request (Due.ASK_AGAIN), with another SendID.

    A DELETE of an earlier MKT with the old SendID may be in flight, and the peer decides for how
    long.
    """
    before = conn.mkt_in_use
    before.end(MktState.FAILED)
    state.release(conn.peer, before)
    if _begin_anew(state, conn, now, (before.send_id,)):
        ask(state, conn, now)
    else:
        cause = f'all {LARGEST} KeyIDs towards this peer are taken'
        why = Explanation.of(Reason.ALL_IDS_TAKEN, 'negotiating the key', cause)
        _give_up(state, conn, why, now)


def too_late(state: Store, conn: Connection, now: float) -> None:
    """Fail an opening that took too long (Due.GATE)."""
    unanswered = Explanation.of(Reason.NO_IKE_ANSWER, 'negotiating the key', str(Cause.NO_ANSWER))
    if conn.mkt_in_use.mkt is not None:
        cause = 'no answer from the installer'
        why = Explanation.of(Reason.KEY_REFUSED, 'installing the key', cause)
    elif conn.peer.up:
        why = unanswered
    else:
        why = conn.peer.trouble or replace(unanswered, step='IKE')
    _give_up(state, conn, why, now)


def _give_up(state: Store, conn: Connection, why: Explanation, now: float) -> None:
    error = state.refuse(conn.policy, why.step, why.cause, why.reason)
    if conn.waiter is not None:
        conn.waiter.fail(error)
        conn.waiter = None
    ending.drop(state, conn, now)


def cancelled(state: Store, pair: SocketPair, waiter: Waiter, now: float) -> None:
    """End an opening that no caller waits for any more."""
    conn = state.connections.get(pair)
    if conn is None or conn.waiter is not waiter:
        return
    conn.waiter = None
    if conn.phase is Phase.NEGOTIATING:
        ending.drop(state, conn, now)
    # Otherwise TCP is up, and must end before the DELETE: `gone` follows.


def negotiated(state: Store, conn: Connection, keys: RpSaKeys, now: float) -> None:
    """Install the negotiated key, before the SYN."""
    life, peer = conn.mkt_in_use, conn.peer
    if keys.recv_id in state.recv_ids_in_use(peer, conn.pair, now) or not peer.keyids.take_recv_id(
        keys.recv_id
    ):
        # Delete the peer's new MKT, and name the ids that we can't take.
        keys.master_key.wipe()
        state.endpoint.delete(peer.pad.name, (life.send_id,), now)
        conn.keyids_refused.update(state.recv_ids_in_use(peer, conn.pair, now))
        _again(state, conn, now, f'the peer gave out KeyID {keys.recv_id} twice')
        return
    conn.keyids_refused = set()
    state.give_key(conn, life, keys, conn.policy.lifetime, now)
    state.command(Install(life.key, Where.CONNECTION))


def _again(state: Store, conn: Connection, now: float, cause: str) -> None:
    """Repeat the request with another SendID; the old one stays out of use for a while."""
    conn.attempts += 1
    conn.mkt_in_use.end(MktState.FAILED)
    state.release_at(conn.peer, conn.mkt_in_use, now + 2.0 * conn.policy.lifetime)
    if conn.attempts >= MOST_ATTEMPTS or not _begin_anew(state, conn, now):
        why = Explanation.of(Reason.KEY_IDS_CROSSED, 'negotiating the key', cause)
        _give_up(state, conn, why, now)
    else:
        ask(state, conn, now)


def _begin_anew(state: Store, conn: Connection, now: float, unwanted: Iterable[int] = ()) -> bool:
    """Begin another MKT with another SendID; return False if there is none or no caller waits."""
    if conn.waiter is None:
        return False
    try:
        send_id = state.take_send_id(conn.peer, conn.pair, now, unwanted)
    except NoKeyIdError:
        return False
    conn.mkt_in_use = state.new_life(conn.policy, conn.peer, conn.pair, send_id, initiator=True)
    return True


def refused(state: Store, conn: Connection, failure: RpSaFailed, now: float) -> None:
    """Handle a failed request, which left nothing at the peer. GATE limits the repetitions."""
    life, peer = conn.mkt_in_use, conn.peer
    # The peer may have restarted, and be reachable again.
    busy = failure.notify == NotifyType.TEMPORARY_FAILURE or failure.cause in _FORGOTTEN
    if busy and conn.waiter is not None:
        state.deadlines.set(Due.ASK_AGAIN, conn, now + OPENING_RETRY)
        return
    life.end(MktState.FAILED)
    state.release(peer, life)
    if failure.notify == NotifyType.KEYID_IN_USE:
        conn.attempts += 1
        if conn.attempts < MOST_ATTEMPTS and _begin_anew(state, conn, now, failure.data):
            ask(state, conn, now)
            return
    why = explain('negotiating the key', failure, None if peer.up else peer.trouble)
    _give_up(state, conn, why, now)


def installed(state: Store, conn: Connection, now: float) -> None:
    """Grant the connection: the key is on the closed socket, so connect() may be called."""
    life = conn.mkt_in_use
    life.move(MktState.INSTALLED)
    conn.phase = Phase.WAITING
    state.deadlines.cancel(Due.GATE, conn)
    state.deadlines.set(Due.HARD, conn, life.hard_at)
    look_at = max(conn.policy.timeout / 2, conn.policy.timeout - LOOK_BEFORE)
    state.deadlines.set(Due.SYN_ANSWER, conn, now + look_at)
    state.note_installed(conn, life)
    if conn.waiter is not None:
        conn.waiter.settle(conn.policy.key, life.key)
        conn.waiter = None


def not_installed(state: Store, conn: Connection, failure: Failed, now: float) -> None:
    """Fail the opening: the kernel refused the key. `ending.drop` sends DELETE to the peer."""
    cause = f'key refused: {failure.text}'
    why = Explanation.of(
        BY_INSTALLER.get(failure.cause, Reason.KEY_REFUSED), 'installing the key', cause
    )
    _give_up(state, conn, why, now)
