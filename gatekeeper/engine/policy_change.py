"""A new set of policies: what it forbids ends, everything else goes on.

A lifetime takes effect at the next rekey; other algorithms that permit the present one, by a rekey
at once; algorithms that forbid it, other addresses or identities end the session. A change of
credential or IKE policy is in `negotiated.reauthentication`.
"""

from __future__ import annotations

from collections.abc import Sequence

from gatekeeper.engine import ending
from gatekeeper.engine.keychains import sessions as chains
from gatekeeper.engine.negotiated import reauthentication as reproving
from gatekeeper.errors import PolicyError
from gatekeeper.policy.sessions import PadEntry, SessionPolicy, by_peer, check
from gatekeeper.state.connection import Connection, Phase
from gatekeeper.state.deadlines import Due
from gatekeeper.state.key_ids import KeyIds
from gatekeeper.state.peer import Peer
from gatekeeper.state.store import Store
from ikev2.errors import LocalError
from ikev2.peer import Peer as IkePeer


def configure(state: Store, policies: Sequence[SessionPolicy], now: float) -> None:
    """Put the whole new set of sessions in force. Raises PolicyError; unchanged then."""
    check(policies)
    chains.check_reload(state, policies)
    sessions_of = by_peer(policies)
    pads = {name: sessions[0].entry for name, sessions in sessions_of.items()}
    ike_peers = {name: _ike_peer(name, pads[name], sessions_of[name]) for name in pads}
    wanted = {policy.key: policy for policy in policies}
    for conn in list(state.connections.values()):
        if conn.phase is not Phase.ENDING:
            _apply(state, conn, wanted.get(conn.policy.key), now)
    state.policies, state.sessions_of = wanted, sessions_of
    # Failures so far may have been corrected.
    state.errors.clear()
    for key in set(state.notifications) - set(wanted):
        del state.notifications[key]
    for name in set(state.peers) - set(pads):
        state.endpoint.remove_peer(name, now)
        state.forget(state.peers.pop(name))
    left: dict[str, tuple[int, ...]] = {}
    for name, known in state.peers.items():
        # An address that moves between peers is free once all of them have released it.
        if known.ike != ike_peers[name] and known.pad != pads[name]:
            reproving.begin(state, known, ike_peers[name], now)
        if known.ike != ike_peers[name]:
            # The name of an entry is the two identities, to which MKTs belong.
            left[name] = state.endpoint.remove_peer(name, now)
    for name, ike_peer in ike_peers.items():
        if name in state.peers:
            state.peers[name].pad, state.peers[name].ike = pads[name], ike_peer
        else:
            state.peers[name] = Peer(pads[name], ike_peer, KeyIds(state.random))
        state.endpoint.set_peer(ike_peer, now, left=left.get(name, ()))
        state.endpoint.connect(name, now)
    chains.reloaded(state, now)


def _ike_peer(name: str, pad: PadEntry, sessions: Sequence[SessionPolicy]) -> IkePeer:
    """Return the peer for IKE. Raises PolicyError."""
    addresses = {(session.local, session.remote) for session in sessions}
    try:
        return IkePeer(
            name=name,
            local_id=pad.local_id,
            remote_id=pad.peer_id,
            credential=pad.local_credential,
            remote_credential=pad.peer_credential,
            addresses=tuple(sorted(addresses, key=str)),
            remote_port=pad.ike_port,
            policy=pad.ike_policy,
            ppk=pad.ppk,
            ike_lifetime=pad.ike_lifetime,
            reauthenticate_after=pad.reauthentication,
            liveness_idle=pad.liveness,
        )
    except LocalError as error:
        raise PolicyError(str(error)) from None


def _apply(state: Store, conn: Connection, policy: SessionPolicy | None, now: float) -> None:
    old = conn.policy
    if (
        policy is None
        or (policy.local, policy.remote) != (old.local, old.remote)
        or not conn.keys.permits(policy)
    ):
        ending.close(state, conn, 'the configuration changed', now)
        return
    if (
        conn.phase is Phase.PROVEN
        and conn.ike_peer is not None
        and policy.algorithms != old.algorithms
    ):
        state.deadlines.set(Due.REKEY, conn, now)
    conn.policy = policy
    if conn.ike_peer is not None:
        conn.keys.sync(now)
