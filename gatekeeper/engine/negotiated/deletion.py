"""The end of MKTs by IKE: DELETE from the peer, the answer to ours, INITIAL_CONTACT."""

from __future__ import annotations

from gatekeeper.engine import ending, rotation
from gatekeeper.engine.negotiated import connection_keys
from gatekeeper.state.connection import Connection, Phase
from gatekeeper.state.deadlines import Due
from gatekeeper.state.limits import ABORT_WITHIN, lingers
from gatekeeper.state.mkt_record import MktRecord
from gatekeeper.state.peer import Peer
from gatekeeper.state.store import Store
from ikev2.events import DeleteAnswered, InitialContact, KeysDeleted


def keys_deleted(state: Store, event: KeysDeleted, now: float) -> None:
    """Answer the peer's DELETE at once, with our SendIDs of the same MKTs."""
    peer = state.peers[event.peer]
    known = [life for life in map(peer.by_recv_id, event.recv_ids) if life is not None]
    state.endpoint.answer_delete(
        event.token, tuple(life.send_id for life in known if not life.deleting), now
    )
    for life in known:
        state.deleted(peer, life, now)
    for life in known:
        conn = state.connections.get(life.pair)
        if conn is None or conn.phase is Phase.ENDING or life not in conn.mkts():
            continue
        if _is_over(conn):
            _over(state, conn, now)
        elif life in (conn.requested_successor, conn.peers_successor):
            connection_keys.drop_successor(state, conn, life, now)
        else:
            connection_keys.deleted(state, conn, life, now)


def _is_over(conn: Connection) -> bool:
    """Return True if the peer has deleted every MKT of it, except those that we are deleting."""
    return all(
        life.deleted_by_peer or life.deleting for life in conn.mkts() if life.mkt is not None
    )


def _over(state: Store, conn: Connection, now: float) -> None:
    """Abort, or give the TCP of a proven connection some time to end by itself."""
    if conn.phase is not Phase.PROVEN:
        ending.abort(state, conn, 'the peer deleted its key', now)
    elif not state.deadlines.is_set(Due.DELETED, conn):
        state.deadlines.set(Due.DELETED, conn, now + ABORT_WITHIN)


def delete_answered(state: Store, event: DeleteAnswered, now: float) -> None:
    """Note that our DELETE was answered, or never will be."""
    peer = state.peers.get(event.peer)
    if peer is None:
        return
    for life in peer.deletes.pop(event.exchange, []):
        life.deleting = False
        if not event.answered:
            if life in peer.mkts and not life.deleted_by_peer:
                peer.undeleted.append(life)
            state.release_if_over(peer, life)
            continue
        state.deleted(peer, life, now)
        conn = state.connections.get(life.pair)
        if conn is not None and life in conn.retiring:
            rotation.retire_at(state, conn, life, now + lingers(life.lifetime))


def initial_contact(state: Store, event: InitialContact, now: float) -> None:
    """End all MKTs of the peer's earlier IKE SAs: the peer has restarted."""
    peer = state.peers[event.peer]
    dead = [life for life in peer.mkts if life.mkt and life.authenticated < event.before]
    for conn in state.connections_with(peer):
        if conn.mkt_in_use not in dead:
            continue
        # With its successor, which can't belong to the peer's new instance.
        dead += [life for life in conn.mkts() if life.mkt and life not in dead]
        for life in conn.mkts():
            life.deleted_by_peer = True
        ending.abort(state, conn, 'the peer has restarted (INITIAL_CONTACT)', now)
    for life in dead:
        _dead(state, peer, life, now)


def _dead(state: Store, peer: Peer, life: MktRecord, now: float) -> None:
    """Free the ids of an MKT without waiting for a DELETE."""
    if life.ended:
        state.release(peer, life)
    else:
        state.release_at(peer, life, now)


def not_closed(state: Store, conn: Connection, now: float) -> None:
    """Abort a connection whose only key the peer deleted, and whose TCP did not end
    (Due.DELETED).
    """
    ending.abort(state, conn, 'the peer deleted its only key', now)
