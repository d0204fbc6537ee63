"""The end of connections and their MKTs: closed, aborted, or never up.

A DELETE follows TCP, never precedes it, so that a last NOTIFICATION isn't lost. Where the daemon
has a socket, its `gone` ends a connection; until then it is ENDING.
"""

from __future__ import annotations

from collections import Counter

from gatekeeper.clock import LATE
from gatekeeper.errors import GateError
from gatekeeper.reporting.events import EventName
from gatekeeper.reporting.reasons import Reason
from gatekeeper.state.connection import Connection, Phase
from gatekeeper.state.deadlines import Due
from gatekeeper.state.mkt_record import MktRecord, MktState
from gatekeeper.state.store import Store
from ikev2.constants import NotifyType
from tcpao.installer import Abort, Close, Remove, Where
from tcpao.mkt import SocketPair


def abort(state: Store, conn: Connection, cause: str, now: float) -> None:
    """Have the socket closed at once; without a socket drop the connection now."""
    if conn.has_socket:
        _begin_ending(state, conn, cause, now)
        state.command(Abort(conn.pair, cause))
    else:
        drop(state, conn, now)


def close(state: Store, conn: Connection, cause: str, now: float) -> None:
    """Have the session ended with NOTIFICATION Cease; without a socket drop it now."""
    if conn.has_socket:
        _begin_ending(state, conn, cause, now)
        state.command(Close(conn.pair, cause))
    else:
        drop(state, conn, now)


def abort_expired(state: Store, now: float) -> None:
    """Abort each session that has had a key whose end was not acted upon in time.

    The kernel may have accepted octets under any of its keys in that time, even if another key is
    in use by now.
    """
    cause = 'a key ended while this process was paused'
    for conn in list(state.connections.values()):
        if conn.phase is not Phase.PROVEN:
            continue
        ended = any(life.mkt and life.hard_at <= now - LATE for life in conn.mkts())
        if ended or conn.keys.has_ended_key(state.wall(now) - LATE):
            state.refuse(conn.policy, 'hard lifetime', cause, Reason.PAUSED)
            abort(state, conn, cause, now)


def _begin_ending(state: Store, conn: Connection, cause: str, now: float) -> None:
    """Begin no other action on this connection. The end of its keys stays in force."""
    if conn.phase is Phase.ENDING:
        return
    conn.phase = Phase.ENDING
    _silence(state, conn)
    for life in conn.mkts():
        _withdraw(state, life, now)
    expiries = [life.hard_at for life in conn.mkts() if life.mkt is not None]
    if expiries:
        state.deadlines.set(Due.HARD, conn, min(expiries))
    _fail_waiter(conn, cause)


def _fail_waiter(conn: Connection, cause: str) -> None:
    """Fail the waiter now, not when the socket has closed."""
    waiter, conn.waiter = conn.waiter, None
    if waiter is not None:
        policy = conn.policy
        waiter.fail(GateError(f'neighbor {policy.neighbor} session {policy.session.name}: {cause}'))


def _withdraw(state: Store, life: MktRecord, now: float) -> None:
    """Withdraw our request for an MKT, and refuse the peer's."""
    if life.exchange is not None:
        del state.exchanges[life.exchange]
        state.endpoint.cancel(life.peer, life.exchange, now)
        life.exchange = None
    refuse_waiting(state, life, now)


def gone(state: Store, pair: SocketPair, now: float) -> None:
    """Note that the daemon's socket is closed, or never came up."""
    if state.strays[pair]:
        # Not the socket of the connection that the peer may have requested in the meantime.
        state.strays -= Counter((pair,))
        return
    conn = state.connections.get(pair)
    if conn is not None:
        drop(state, conn, now)


def drop(state: Store, conn: Connection, now: float, *, tell_peer: bool = True) -> None:
    """Drop the connection: its keys end here and (by DELETE) at the peer."""
    forget(state, conn)
    _fail_waiter(conn, f'connection {conn.pair} is closed; it is tried again')
    lives = conn.mkts()
    for life in lives:
        end_life(state, conn, life, now)
    keyed = [life for life in lives if life.mkt is not None]
    if tell_peer:
        state.delete(conn.ike_peer, keyed, now)
    for life in keyed:
        if not tell_peer:
            state.release_at(conn.ike_peer, life, life.installed_at + 2.0 * life.lifetime)
        state.release_if_over(conn.ike_peer, life)


def end_life(state: Store, conn: Connection, life: MktRecord, now: float) -> None:
    """End one MKT of a connection whose socket is gone."""
    _withdraw(state, life, now)
    if life.on_listener:
        life.on_listener = False
        state.command(Remove(life.key, Where.LISTENER))
    if life.mkt is None:
        life.end(MktState.FAILED)
        if conn.ike_peer is not None:
            state.release(conn.ike_peer, life)
        return
    if life.state is not MktState.NEGOTIATING:
        state.note(conn.policy, EventName.MKT_REMOVED, send_id=life.send_id, recv_id=life.recv_id)
    life.end()


def forget(state: Store, conn: Connection) -> None:
    """Remove a connection from the tables, with its deadlines."""
    if state.connections.get(conn.pair) is conn:
        del state.connections[conn.pair]
    _silence(state, conn)


def _silence(state: Store, conn: Connection) -> None:
    """Cancel the deadlines of a connection."""
    state.deadlines.cancel_all(conn)
    for life in conn.mkts():
        state.deadlines.cancel(Due.LIVENESS, life)
        state.deadlines.cancel(Due.RETIRE, life)


def refuse_waiting(state: Store, life: MktRecord, now: float) -> None:
    """Refuse for now the peer's request for this MKT, if that still waits for its answer."""
    token, life.token = life.token, None
    if token is not None:
        _refuse_for_now(state, token, now)


def refuse_replacement(state: Store, conn: Connection, now: float) -> None:
    """Refuse for now the peer's request that waits for the end of this connection, if any."""
    event, conn.replacement = conn.replacement, None
    if event is not None:
        _refuse_for_now(state, event.token, now)


def _refuse_for_now(state: Store, token: int, now: float) -> None:
    state.endpoint.refuse(token, NotifyType.TEMPORARY_FAILURE, b'', now)
