"""What `show` tells: per session where it stands and, if it is down, why. Holds nothing secret."""

from __future__ import annotations

from gatekeeper.policy import SessionPolicy
from gatekeeper.state import Connection, Phase, State
from tcpao.mkt import endpoint


def snapshot(state: State, now: float, wall: float) -> list[dict[str, object]]:
    """A row for each connection, and for each session that has none.

    `now` is of the gatekeeper's clock, `wall` seconds since the epoch at the same moment; the
    times in the rows are seconds since the epoch.
    """
    rows = []
    for policy in state.policies.values():
        found = [conn for conn in state.connections.values() if conn.policy.key == policy.key]
        rows += [_connected(state, policy, conn, wall - now) for conn in found] or [
            _idle(state, policy)
        ]
    return rows


def _row(state: State, policy: SessionPolicy) -> dict[str, object]:
    peer = state.peers[policy.pad.name]
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
        'peer_id': str(policy.pad.peer_id),
        'last_error': state.errors.get(policy.key) or peer.last_error,
        'ike': 'up' if peer.up else 'down',
    }


def _idle(state: State, policy: SessionPolicy) -> dict[str, object]:
    row = _row(state, policy)
    if policy.connect_port is None and state.peers[policy.pad.name].up:
        row['state'] = 'waiting for the peer to ask for a key'
    return row


def _connected(
    state: State, policy: SessionPolicy, conn: Connection, offset: float
) -> dict[str, object]:
    row = _row(state, policy)
    life = conn.life
    row |= {
        'local': endpoint(conn.pair.local, conn.pair.local_port),
        'remote': endpoint(conn.pair.remote, conn.pair.remote_port),
        'state': 'rekeying' if conn.rotation or conn.wanted else str(conn.phase),
        'send_id': life.send_id,
        'recv_id': life.recv_id,
        'since': round(conn.since + offset, 3),
        'rekeys': conn.rekeys,
    }
    if conn.phase is Phase.NEGOTIATING and not state.peers[policy.pad.name].up:
        row['state'] = 'waiting for IKE'
    if life.mkt is not None:
        row['algorithm'] = life.mkt.algorithm.name
        row['expires'] = round(life.hard_at + offset, 3)
    return row
