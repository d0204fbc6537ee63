"""MKTs made of an operator's keys: each has its own copy of the secret."""

from __future__ import annotations

from math import inf

from gatekeeper.policy.keychain import ChainKey
from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.state.mkt_record import MktRecord, MktState
from gatekeeper.state.store import Store
from keymaterial import Secret
from tcpao.mkt import Mkt, PeerPairs, SocketPair


def begin_life(
    state: Store, policy: SessionPolicy, pair: SocketPair, key: ChainKey, now: float
) -> MktRecord:
    """Return the record of an operator's MKT for this connection."""
    mkt = mkt_of(state, policy, pair, key)
    life = MktRecord(
        name=mkt.identity,
        peer='',
        session_key=policy.key,
        pair=pair,
        send_id=key.send_id,
        initiator=True,
        recv_id=key.recv_id,
        mkt=mkt,
        installed_at=now,
        hard_at=inf,
    )
    life.move(MktState.NEGOTIATING)
    return life


def mkt_of(
    state: Store, policy: SessionPolicy, protects: SocketPair | PeerPairs, key: ChainKey
) -> Mkt:
    """Return the MKT of an operator's key, with its own copy of the secret."""
    assert policy.keychain is not None
    return Mkt(
        identity=f'{policy.keychain.name}/key {key.number}/{state.next_name()}',
        protects=protects,
        algorithm=key.algorithm,
        tcp_options=key.tcp_options,
        send_id=key.send_id,
        recv_id=key.recv_id,
        master_key=Secret(key.master_key.reveal()),
        not_after=inf,
    )
