"""Revocation: MKTs that neither side may use from now on, even if in use.

It takes effect at once. A connection whose traffic is under a revoked MKT is aborted; where another
MKT protects it, the revoked one is removed by force and the session stays.
"""

from __future__ import annotations

from collections.abc import Collection

from gatekeeper.engine import ending, rotation
from gatekeeper.engine.negotiated.connection_keys import drop_successor
from gatekeeper.reporting.explanations import Explanation
from gatekeeper.state.connection import Connection, Phase
from gatekeeper.state.mkt_record import MktRecord
from gatekeeper.state.peer import Peer
from gatekeeper.state.store import Store


def revoke(
    state: Store, peer: Peer, revoked: Collection[MktRecord], why: Explanation, now: float
) -> None:
    """Revoke these MKTs of a peer; every session that loses its connection gets the reason."""
    for mkt in revoked:
        mkt.revoked = True
    for conn in state.connections_with(peer):
        if conn.phase is Phase.ENDING:
            continue
        if _carries_traffic(conn):
            state.refuse(conn.policy, why.step, why.cause, why.reason)
            ending.abort(state, conn, why.cause, now)
            continue
        for mkt in conn.mkts():
            if mkt.revoked:
                _take_off(state, conn, mkt, now)


def _carries_traffic(conn: Connection) -> bool:
    """Return True if segments may be under a revoked MKT."""
    moving = conn.rotation
    return conn.mkt_in_use.revoked or (
        moving is not None and moving.new.revoked and moving.successor_received
    )


def _take_off(state: Store, conn: Connection, mkt: MktRecord, now: float) -> None:
    if conn.rotation is not None and mkt is conn.rotation.new:
        rotation.give_up(state, conn)
        conn.keys.discarded(mkt, now)
    elif mkt in (conn.requested_successor, conn.peers_successor) and mkt.mkt is not None:
        drop_successor(state, conn, mkt, now)
    if mkt in conn.retiring:
        rotation.remove_by_force(state, conn, mkt)
