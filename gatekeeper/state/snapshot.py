"""The rows of `show`: the state of each session and, if it is down, the reason. Without secrets."""

from __future__ import annotations

from math import inf

from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.reporting.explanations import Explanation, heaviest
from gatekeeper.reporting.reasons import Reason
from gatekeeper.state.connection import Connection, Phase
from gatekeeper.state.limits import CEASE_BEFORE
from gatekeeper.state.store import Store
from ikev2.authentication.credentials import CertifiedKey
from tcpao.mkt import endpoint

DENIED = 'down: the keychain denies'
REKEYING = 'rekeying'
UP = {str(Phase.PROVEN), REKEYING}
"""States of a session that has its protected connection."""


def snapshot(state: Store, now: float) -> list[dict[str, object]]:
    """Return a row for each connection, and for each session that has none.

    `now` is of the gatekeeper's clock; the times in the rows are seconds since the epoch, equal in
    every call until that clock is set.
    """
    wall = state.wall(now)
    rows = []
    connections: dict[str, list[Connection]] = {}
    for conn in state.connections.values():
        connections.setdefault(conn.policy.key, []).append(conn)
    for policy in state.policies.values():
        found = connections.get(policy.key, ())
        connected = [_connected(state, policy, conn, wall - now) for conn in found]
        more = _chain(policy, wall) | _ike(state, policy)
        rows += [row | more for row in connected] or [_idle(state, policy, wall) | more]
    return rows


def _ike(state: Store, policy: SessionPolicy) -> dict[str, object]:
    """Return the end of our certificate, the algorithms of the IKE SA, and the end of its proof."""
    if policy.pad is None:
        return {}
    peer, own = state.peers[policy.pad.name], policy.pad.local_credential
    ends = own.not_after if isinstance(own, CertifiedKey) else None
    if not peer.up:
        return {'certificate_expires': ends}
    ike_sa = state.endpoint.ike_sa_in_use(peer.pad.name)
    if ike_sa is None:
        return {'certificate_expires': ends}
    return {
        'certificate_expires': ends,
        'ike_suite': ike_sa.suite,
        'proven_until': ike_sa.proven_until,
    }


def _chain(policy: SessionPolicy, wall: float) -> dict[str, object]:
    """Return the keychain's part: its next change, and the state of its keys now (RFC 8177 3.1).

    Without next_key at a next_change, the chain denies from then on.
    """
    chain = policy.keychain
    if chain is None:
        return {}
    turn = chain.next_turn(wall)
    time, follows = turn if turn is not None else (None, None)
    return {
        'next_change': time,
        'next_key': follows.number if follows is not None else None,
        'keys': [
            {
                'key': key.number,
                'send_id': key.send_id,
                'recv_id': key.recv_id,
                'algorithm': key.algorithm.name,
                'send_lifetime_active': key.send.covers(wall),
                'accept_lifetime_active': key.accept.covers(wall),
            }
            for key in chain.keys
        ],
    }


def _row(state: Store, policy: SessionPolicy) -> dict[str, object]:
    peer = state.peers[policy.pad.name] if policy.pad is not None else None
    trouble = heaviest(state.errors.get(policy.key), peer.trouble if peer is not None else None)
    return {
        'neighbor': policy.neighbor,
        'session': policy.session.name,
        'local': str(policy.local),
        'remote': str(policy.remote),
        'state': 'down',
        'backend': state.backend,
        'algorithm': None,
        'send_id': None,
        'recv_id': None,
        'since': None,
        'expires': None,
        'rekeys': 0,
        'volume_used': None,
        'peer_id': str(policy.pad.peer_id) if policy.pad is not None else None,
        'notification': state.notifications.get(policy.key),
        **_why(trouble),
        'ike': ('up' if peer.up else 'down') if peer else None,
        'certificate_expires': None,
        'ike_suite': None,
        'proven_until': None,
        'keychain': policy.keychain.name if policy.keychain is not None else None,
        'key': None,
        'next_change': None,
        'next_key': None,
        'keys': None,
    }


def _why(trouble: Explanation | None) -> dict[str, object]:
    return {
        'last_error': str(trouble) if trouble is not None else None,
        'try_next': (trouble.hint or None) if trouble is not None else None,
        'reason': trouble.reason.word if trouble is not None else None,
    }


def _idle(state: Store, policy: SessionPolicy, wall: float) -> dict[str, object]:
    row = _row(state, policy)
    chain = policy.keychain
    denied = chain.denies(wall, CEASE_BEFORE) if chain is not None else None
    if denied is not None:
        why = Explanation.of(Reason.CHAIN_DENIES, 'before connect', denied)
        return row | {'state': DENIED} | _why(why)
    if policy.connect_port is not None:
        return row
    if policy.pad is None:
        row['state'] = "waiting for the peer's SYN"
    elif state.peers[policy.pad.name].up:
        row['state'] = 'waiting for the peer to ask for a key'
    return row


def _connected(
    state: Store, policy: SessionPolicy, conn: Connection, offset: float
) -> dict[str, object]:
    row = _row(state, policy)
    life = conn.mkt_in_use
    row |= {
        'local': endpoint(conn.pair.local, conn.pair.local_port),
        'remote': endpoint(conn.pair.remote, conn.pair.remote_port),
        'state': REKEYING if _is_moving(conn) else str(conn.phase),
        'send_id': life.send_id,
        'recv_id': life.recv_id,
        'since': round(conn.since + offset, 3),
        'rekeys': conn.rekeys,
    }
    if conn.phase is Phase.NEGOTIATING and conn.ike_peer is not None and not conn.ike_peer.up:
        row['state'] = 'waiting for IKE'
    if conn.phase is Phase.PROVEN:
        # A failed attempt at a second connection tells nothing about this one.
        row |= _why(_stands_in_the_way(conn)) | {'notification': None}
    if life.mkt is not None:
        row['algorithm'] = life.mkt.algorithm.name
        row['expires'] = round(life.hard_at + offset, 3) if life.hard_at < inf else None
    row['key'] = conn.keys.number_of(life)
    if policy.volume is not None:
        row['volume_used'] = round(
            policy.volume.share(conn.counted.traffic.since(life.counted_from)), 3
        )
    return row


def _stands_in_the_way(conn: Connection) -> Explanation | None:
    """Return the obstacle to the connection's next key: a failed rekey, or no IKE SA."""
    peer = conn.ike_peer
    return heaviest(conn.trouble, None if peer is None or peer.up else peer.trouble)


def _is_moving(conn: Connection) -> bool:
    rotation = conn.rotation
    return conn.requested_successor is not None or (rotation is not None and not rotation.stalled)
