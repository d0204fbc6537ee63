"""Keychains in force: their keys on the listening sockets, their sessions opened and accepted.

Also the changes when a lifetime begins or ends, the clock is set, or the configuration changes.
`gatekeeper.engine.keychains.connection_keys` handles one connection; `gatekeeper.policy.keychain`
decides which key is valid.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network

from gatekeeper.engine.keychains.connection_keys import KeychainKeys
from gatekeeper.engine.keychains.mkts import begin_life, mkt_of
from gatekeeper.errors import PolicyError
from gatekeeper.policy.deny_ids import chains_of, deny_ids, keys_towards
from gatekeeper.policy.keychain import ChainKey
from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.reporting.events import EventName
from gatekeeper.reporting.reasons import BY_INSTALLER, Reason
from gatekeeper.state.connection import Connection, Phase, Waiter
from gatekeeper.state.deadlines import Due
from gatekeeper.state.limits import CEASE_BEFORE, POSTING_RETRY
from gatekeeper.state.store import ListenerKey, ListenerKeyId, Store
from tcpao.installer import DENY_ID, Failed, Install, Remove, Where
from tcpao.mkt import Mkt, PeerPairs, SocketPair

CHAINS = 'keychains'
"""The subject of the deadline Due.CHAINS."""


# --- ids ----------------------------------------------------------------------------------------


def check_reload(state: Store, policies: Sequence[SessionPolicy]) -> None:
    """Check that no key has ids that another one had until now. Raises PolicyError.

    One socket can't hold both (EEXIST), so nothing could replace the old one, which would silently
    stay.
    """
    before = {(p.remote, chain.name): chain for p, chain in chains_of(state.policies.values())}
    for policy, chain in chains_of(policies):
        old = before.get((policy.remote, chain.name))
        for key in chain.keys if old is not None else ():
            assert old is not None
            other = next((one for one in old.keys if key.clashes(one)), None)
            if other is not None:
                raise PolicyError(
                    f'keychain {chain.name}: {key} is not the key that had its ids until now: give '
                    f'a new key new ids, or reload once without the old one'
                )


def reserve_ids(state: Store) -> None:
    """Reserve the ids of manual keys, so that negotiated keys of the same peer take none of
    them.
    """
    held, denying = keys_towards(state.policies.values()), deny_ids(state.policies.values())
    for name, peer in state.peers.items():
        remotes = {policy.remote for policy in state.sessions_of[name]}
        keys = [key for remote in remotes for key in held.get(remote, ())]
        deny = [denying[remote] for remote in remotes]
        sending = {key.send_id for key in keys} | {send_id for send_id, _ in deny}
        receiving = {key.recv_id for key in keys} | {recv_id for _, recv_id in deny}
        peer.keyids.reserve(sending - {DENY_ID}, receiving - {DENY_ID})


# --- renewal of everything
# --------------------------------------------------------------------------


def reloaded(state: Store, now: float) -> None:
    """Apply a loaded configuration; earlier failures may have been corrected."""
    for conn in state.connections.values():
        conn.keys.clear_failures()
    reserve_ids(state)
    renew(state, CHAINS, now)


def renew(state: Store, subject: object, now: float) -> None:
    """Make listeners and connections what the chains require now (Due.CHAINS)."""
    wall = state.wall(now)
    chains = chains_of(state.policies.values())
    _post_all(state, wall)
    for conn in list(state.connections.values()):
        conn.keys.sync(now)
    changes = [chain.next_change(wall) for _, chain in chains]
    next_change = min((change for change in changes if change is not None), default=None)
    if next_change is None:
        state.deadlines.cancel(Due.CHAINS, CHAINS)
    else:
        state.deadlines.set(Due.CHAINS, CHAINS, next_change - wall + now)


# --- listening sockets --------------------------------------------------------------------------


def _post_all(state: Store, wall: float) -> None:
    wanted: dict[ListenerKeyId, tuple[SessionPolicy, ChainKey]] = {}
    for policy, chain in chains_of(state.policies.values()):
        if policy.listen_port is None:
            continue
        for key in chain.accepted(wall):
            place = (policy.remote, policy.listen_port, key.send_id, key.recv_id)
            wanted.setdefault(place, (policy, key))
    for place, posted in list(state.keys_on_listeners.items()):
        kept = wanted.get(place)
        if kept is None or not kept[1].is_same_key(posted.key):
            _take_down(state, place)
    for place, (policy, key) in wanted.items():
        if place not in state.keys_on_listeners:
            _post(state, place, policy, key)


def _post(state: Store, place: ListenerKeyId, policy: SessionPolicy, key: ChainKey) -> None:
    remote, port, _, _ = place
    mkt = mkt_of(state, policy, PeerPairs(ip_network(remote), port), key)
    state.keys_on_listeners[place] = ListenerKey(policy, key, mkt)
    state.command(Install(mkt, Where.LISTENER))


def _take_down(state: Store, place: ListenerKeyId) -> None:
    posted = state.keys_on_listeners.pop(place)
    state.command(Remove(posted.mkt, Where.LISTENER))


def _posted_as(state: Store, mkt: Mkt) -> ListenerKeyId | None:
    assert isinstance(mkt.protects, PeerPairs)
    place = (mkt.peer.network_address, mkt.protects.service_port, mkt.send_id, mkt.recv_id)
    there = state.keys_on_listeners.get(place)
    return place if there is not None and there.mkt == mkt else None


def posted(state: Store, mkt: Mkt) -> None:
    """Note that a key is on the listening sockets."""
    place = _posted_as(state, mkt)
    if place is not None:
        entry = state.keys_on_listeners[place]
        state.note(
            entry.policy,
            EventName.MKT_INSTALLED,
            send_id=entry.mkt.send_id,
            recv_id=entry.mkt.recv_id,
            algorithm=entry.mkt.algorithm.name,
            backend=state.backend,
            pair=entry.mkt.protects,
        )


def not_posted(state: Store, failure: Failed, mkt: Mkt, now: float) -> None:
    """Report a key that could not be put on the listening sockets, and try again later.

    Its connections are refused until then.
    """
    place = _posted_as(state, mkt)
    if place is None:
        return
    entry = state.keys_on_listeners.pop(place)
    cause = f'{entry.key} refused: {failure.text}'
    state.refuse(
        entry.policy,
        'installing the key on the listener',
        cause,
        BY_INSTALLER.get(failure.cause, Reason.NOT_INSTALLED),
    )
    # Sooner than its lifetimes change.
    state.deadlines.set(Due.CHAINS, CHAINS, now + POSTING_RETRY)


# --- connections --------------------------------------------------------------------------------


def open_connection(
    state: Store, policy: SessionPolicy, pair: SocketPair, waiter: Waiter, now: float
) -> None:
    """Put every accepted key of the chain on the socket, as the active side.

    The preferred one comes last, so that it becomes Current and RNext.
    """
    chain, wall = policy.keychain, state.wall(now)
    assert chain is not None
    preferred, denied = chain.preferred(wall), chain.denies(wall, CEASE_BEFORE)
    if preferred is None or denied is not None:
        why = denied or chain.why_denied(wall)
        waiter.fail(state.refuse(policy, 'before connect', why, Reason.CHAIN_DENIES))
        return
    life = begin_life(state, policy, pair, preferred, now)
    conn = Connection(pair, policy, None, opener=True, mkt_in_use=life, waiter=waiter, since=now)
    keys = conn.keys = KeychainKeys(state, conn, (policy,))
    state.connections[pair] = conn
    for key in chain.accepted(wall):
        if key is not preferred:
            state.command(Install(keys.add(key, now).key, Where.CONNECTION))
    keys.held[life.name] = (preferred, life)
    state.keyed.append((policy, True, life.key))
    state.command(Install(life.key, Where.CONNECTION))
    state.deadlines.set(Due.GATE, conn, now + policy.timeout)


def accept(state: Store, pair: SocketPair, now: float) -> Connection | None:
    """Return an accepted connection without negotiated key, as the passive side.

    None if no session with a keychain fits. Its key will tell which session it belongs to.
    """
    fitting = [
        policy
        for policy, _ in chains_of(state.policies.values())
        if (policy.local, policy.remote, policy.listen_port)
        == (pair.local, pair.remote, pair.local_port)
    ]
    pinned = [policy for policy in fitting if policy.peer_port == pair.remote_port]
    candidates = pinned or [policy for policy in fitting if policy.peer_port is None]
    if not candidates:
        return None
    policy = candidates[0]
    assert policy.keychain is not None
    # A placeholder until the socket has been read.
    life = begin_life(state, policy, pair, policy.keychain.keys[0], now)
    conn = Connection(pair, policy, None, opener=False, mkt_in_use=life, since=now)
    conn.keys = KeychainKeys(state, conn, tuple(candidates))
    conn.phase = Phase.WAITING
    state.connections[pair] = conn
    return conn
