"""The rows of the crypto key table (RFC 7210): one for each MKT, without its key."""

from __future__ import annotations

from gatekeeper.policy.key_table import Direction, Row
from gatekeeper.policy.keychain import ChainKey, Keychain, Lifetime
from gatekeeper.state.connection import Connection, Phase
from gatekeeper.state.mkt_record import MktRecord
from gatekeeper.state.store import Store
from tcpao.mkt import IPAddress


def rows(state: Store, now: float) -> list[Row]:
    """Return a row for each negotiated MKT, and for each key of a keychain in use."""
    offset = state.wall(now) - now
    found = [
        _negotiated(conn, life, offset)
        for conn in state.connections.values()
        if conn.ike_peer is not None
        for life in conn.mkts()
        if life.mkt is not None
    ]
    chains: dict[str, tuple[Keychain, set[IPAddress]]] = {}
    for policy in state.policies.values():
        if policy.keychain is not None:
            entry = chains.setdefault(policy.keychain.name, (policy.keychain, set()))
            entry[1].add(policy.remote)
    for chain, peers in chains.values():
        found += [_manual(chain, key, peers) for key in chain.keys]
    return found


def _negotiated(conn: Connection, life: MktRecord, offset: float) -> Row:
    """Return the row of a negotiated MKT.

    A successor before its use, and an old MKT after it, are accepted and not sent.
    """
    mkt = life.key
    sent = life is conn.mkt_in_use and conn.phase is not Phase.ENDING
    lifetime = Lifetime(life.installed_at + offset, life.hard_at + offset)
    return Row(
        admin_key_name=life.name,
        recv_id=mkt.recv_id,
        send_id=mkt.send_id,
        peers=(conn.pair.remote,),
        algorithm=mkt.algorithm,
        tcp_options=mkt.tcp_options,
        send=lifetime,
        accept=lifetime,
        direction=Direction.BOTH if sent else Direction.IN,
        connection=str(conn.pair),
    )


def _manual(chain: Keychain, key: ChainKey, peers: set[IPAddress]) -> Row:
    return Row(
        admin_key_name=f'{chain.name}/key {key.number}',
        recv_id=key.recv_id,
        send_id=key.send_id,
        peers=tuple(sorted(peers, key=lambda peer: (peer.version, peer))),
        algorithm=key.algorithm,
        tcp_options=key.tcp_options,
        send=key.send,
        accept=key.accept,
    )
