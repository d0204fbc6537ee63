"""A successor: requesting one, answering the peer's request, and both at once.

`rotation` brings it into use when both ends have it.
"""

from __future__ import annotations

from gatekeeper.engine import ending
from gatekeeper.engine.negotiated import accepting, connection_keys
from gatekeeper.engine.negotiated.accepting import RefusedError
from gatekeeper.engine.negotiated.opening import offered, selectors
from gatekeeper.reporting.events import EventName
from gatekeeper.reporting.explanations import Explanation, explain
from gatekeeper.reporting.reasons import Reason
from gatekeeper.state.connection import Connection, Doubt, Phase
from gatekeeper.state.deadlines import Due
from gatekeeper.state.key_ids import NoKeyIdError
from gatekeeper.state.limits import CEASE_BEFORE, DOUBT_FOR, rekey_patience, wait_before
from gatekeeper.state.mkt_record import MktRecord, MktState
from gatekeeper.state.store import Store
from ikev2.constants import NotifyType
from ikev2.events import Cause, RpSaFailed, RpSaKeys, RpSaRequest, RpSaRequested
from tcpao.installer import Install, KeyState, Probe, Read, Where


def ask(state: Store, conn: Connection, now: float) -> None:
    """Request a successor at the soft lifetime, unless one is on its way."""
    if (
        conn.phase is not Phase.PROVEN
        or conn.requested_successor
        or conn.peers_successor
        or conn.rotation
    ):
        return
    policy, peer, pair = conn.policy, conn.peer, conn.pair
    try:
        send_id = state.take_send_id(peer, pair, now, conn.keyids_unwanted)
    except NoKeyIdError as error:
        conn.keyids_unwanted = frozenset()
        state.refuse(policy, 'rekey', str(error), Reason.ALL_IDS_TAKEN)
        connection_keys.again(state, conn, now)
        return
    life = conn.requested_successor = state.new_life(policy, peer, pair, send_id, initiator=True)
    tsi, tsr = selectors(conn)
    request = RpSaRequest(
        keyid=send_id,
        suites=offered(state, policy),
        tcp_options=policy.tcp_options,
        tsi=tsi,
        tsr=tsr,
        session_id=None,
        lifetime=policy.lifetime,
        rekey_keyid=conn.mkt_in_use.send_id,
        keyids_in_use=tuple(sorted(conn.keyids_refused)),
    )
    state.note(policy, EventName.REKEY_STARTED, send_id=conn.mkt_in_use.send_id, successor=send_id)
    state.ask(conn, life, request, now)
    _look_again(state, conn, now)


def unanswered(state: Store, conn: Connection, now: float) -> None:
    """Repeat the request (Due.UNANSWERED); a silent IKE SA is replaced at once.

    The request itself may wait in the queue behind others. An IKE SA under which the peer still
    answers others is not given up.
    """
    if conn.requested_successor is None or conn.requested_successor.exchange is None:
        return
    name = conn.peer.pad.name
    state.endpoint.drop_silent(name, rekey_patience(conn.mkt_in_use.lifetime), now)
    state.endpoint.repeat(name, now)
    _look_again(state, conn, now)


def _look_again(state: Store, conn: Connection, now: float) -> None:
    left = wait_before(conn.mkt_in_use.hard_at - CEASE_BEFORE, now)
    wait = min(left, rekey_patience(conn.mkt_in_use.lifetime))
    state.deadlines.set(Due.UNANSWERED, conn, now + wait)


def negotiated(state: Store, conn: Connection, life: MktRecord, keys: RpSaKeys, now: float) -> None:
    """Install the successor on the connection: our request was answered."""
    state.deadlines.cancel(Due.UNANSWERED, conn)
    peer = conn.peer
    in_use = state.recv_ids_in_use(peer, conn.pair, now)
    if keys.recv_id in in_use or not peer.keyids.take_recv_id(keys.recv_id):
        keys.master_key.wipe()
        state.endpoint.delete(peer.pad.name, (life.send_id,), now)
        conn.keyids_refused = set(in_use)
        conn.requested_successor = None
        life.end(MktState.FAILED)
        state.release_at(peer, life, now + 2.0 * conn.policy.lifetime)
        connection_keys.go_on(state, conn, now)
        return
    conn.keyids_refused = set()
    conn.keyids_unwanted = frozenset()
    state.give_key(conn, life, keys, conn.policy.lifetime, now)
    state.command(Install(life.key, Where.CONNECTION))


def failed(
    state: Store, conn: Connection, life: MktRecord, failure: RpSaFailed, now: float
) -> None:
    """Handle a failed request of ours; the session stays on its key."""
    state.deadlines.cancel(Due.UNANSWERED, conn)
    conn.requested_successor = None
    life.end(MktState.FAILED)
    state.release(conn.peer, life)
    if failure.notify == NotifyType.CHILD_SA_NOT_FOUND:
        if conn.mkt_in_use.limited is not None:
            # The holder of this key is not the peer that has proven itself by the new credential.
            cause = 'the peer does not know the key from before the change of a credential'
            state.refuse(conn.policy, 'configuration', cause, Reason.UNRENEWED)
            ending.abort(state, conn, cause, now)
            return
        _doubt(state, conn)
    if failure.notify == NotifyType.KEYID_IN_USE:
        conn.keyids_unwanted = frozenset(failure.data)
    if failure.notify != NotifyType.TEMPORARY_FAILURE:
        why = explain('rekey', failure, None if conn.peer.up else conn.peer.trouble)
        state.warn(conn, why)
    if failure.cause is Cause.NO_ANSWER:
        # Nothing is known about other connections: they stay.
        state.endpoint.connect(conn.peer.pad.name, now)
    connection_keys.go_on(state, conn, now)


# --- the peer asks --------------------------------------------------------------------------


def requested(state: Store, event: RpSaRequested, now: float) -> None:
    """Handle the peer's request for a successor: refuse it, or install and then answer."""
    try:
        _requested(state, event, now)
    except RefusedError as refusal:
        state.endpoint.refuse(event.token, refusal.notify, refusal.data, now)
        if refusal.notify is not NotifyType.TEMPORARY_FAILURE:
            why = Explanation.of(refusal.reason, 'rekey by the peer', refusal.cause)
            state.refuse_request(state.peers[event.peer], refusal.policy, why)


def _requested(state: Store, event: RpSaRequested, now: float) -> None:
    peer, offer = state.peers[event.peer], event.offer
    old = peer.by_recv_id(offer.rekey_keyid or 0)
    conn = state.connections.get(old.pair) if old is not None else None
    if old is None or conn is None or old.ended:
        raise RefusedError(NotifyType.CHILD_SA_NOT_FOUND, f'no MKT with KeyID {offer.rekey_keyid}')
    policy, pair = conn.policy, conn.pair
    if (offer.tsi, offer.tsr) != selectors(conn):
        raise RefusedError(
            NotifyType.TS_UNACCEPTABLE, 'the selectors of the old MKT differ', b'', policy
        )
    if (
        old is not conn.mkt_in_use
        or conn.phase is not Phase.PROVEN
        or conn.rotation
        or conn.peers_successor
    ):
        raise RefusedError(NotifyType.TEMPORARY_FAILURE, 'a rekey is under way', policy=policy)
    suite = accepting.choose(state, policy, offer)
    _withdraw_unsent(state, conn)
    send_id = accepting.take_ids(state, peer, policy, pair, offer, now)
    life = conn.peers_successor = state.new_life(policy, peer, pair, send_id, initiator=False)
    life.token = event.token
    if conn.requested_successor is None:
        state.note(
            policy, EventName.REKEY_STARTED, send_id=conn.mkt_in_use.send_id, successor=send_id
        )
    life.promised_recv_id = offer.keyid
    keys = state.endpoint.prepare(
        event.token, suite, policy.tcp_options, send_id, policy.lifetime, now
    )
    if keys is not None:
        prepared(state, conn, life, keys, now)


def _withdraw_unsent(state: Store, conn: Connection) -> None:
    """Withdraw our request for the same MKT that was not sent yet: it is not needed any more.

    Two crossing requests take three ids of each side, instead of two.
    """
    ours = conn.requested_successor
    if ours is None or ours.exchange is None:
        return
    if state.endpoint.withdraw(conn.peer.pad.name, ours.exchange):
        del state.exchanges[ours.exchange]
        ours.exchange = conn.requested_successor = None
        state.deadlines.cancel(Due.UNANSWERED, conn)
        ours.end(MktState.FAILED)
        state.release(conn.peer, ours)


def prepared(state: Store, conn: Connection, life: MktRecord, keys: RpSaKeys, now: float) -> None:
    """Install the successor, whose key is there at once or after additional key exchanges."""
    state.give_key(conn, life, keys, conn.policy.lifetime, now)
    state.command(Install(life.key, Where.CONNECTION))


def abandoned(state: Store, conn: Connection, life: MktRecord, now: float) -> None:
    """Drop a request that the peer never completed; the session stays on its key."""
    life.token = None
    conn.peers_successor = None
    life.end(MktState.FAILED)
    state.release(conn.peer, life)
    connection_keys.go_on(state, conn, now)


# --- the peer does not know our key ---------------------------------------------------------


def _doubt(state: Store, conn: Connection) -> None:
    """Check whether good segments still come: CHILD_SA_NOT_FOUND alone removes nothing."""
    if conn.doubt is None:
        conn.doubt = Doubt()
        state.command(Probe(conn.pair, on=True))
        state.command(Read(conn.pair))


def read(state: Store, conn: Connection, seen: KeyState, now: float) -> None:
    """Compare two readings after CHILD_SA_NOT_FOUND: the first, and the one after DOUBT_FOR."""
    doubt = conn.doubt
    if doubt is None:
        return
    good = sum(key.good for key in seen.keys)
    if doubt.good is None:
        doubt.good, doubt.until = good, now + DOUBT_FOR
        state.deadlines.set(Due.DOUBT, conn, doubt.until)
    elif now >= doubt.until:
        conn.doubt = None
        if conn.rotation is None:
            state.command(Probe(conn.pair, on=False))
        if good <= doubt.good:
            cause = 'the peer does not know the key and sends nothing under it'
            ending.abort(state, conn, cause, now)
