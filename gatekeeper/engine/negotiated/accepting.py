"""The passive side: an authenticated peer requests an MKT; install first, then answer.

The session is found from the peer's identity, the addresses, and the service port and session in
the request; never from the claims of the request alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from gatekeeper.engine import ending
from gatekeeper.engine.negotiated.connection_keys import NegotiatedKeys
from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.reporting.events import EventName
from gatekeeper.reporting.explanations import Explanation
from gatekeeper.reporting.reasons import BY_INSTALLER, Reason
from gatekeeper.state.connection import Connection, Phase
from gatekeeper.state.deadlines import Due
from gatekeeper.state.key_ids import NoKeyIdError
from gatekeeper.state.limits import ABORT_WITHIN, LISTENER_HOLDS, RETRY_REMOVE
from gatekeeper.state.mkt_record import MktState
from gatekeeper.state.peer import Peer
from gatekeeper.state.store import Store
from ikev2.constants import NotifyType
from ikev2.events import RpSaKeys, RpSaOffer, RpSaRequested
from tcpao.installer import Cause, Failed, Install, Remove, Where
from tcpao.mkt import Mkt, SocketPair

REFUSALS: dict[Cause, NotifyType] = {
    Cause.NO_LISTENER: NotifyType.TS_UNACCEPTABLE,
    Cause.UNSUPPORTED: NotifyType.NO_PROPOSAL_CHOSEN,
    Cause.KEYID_IN_USE: NotifyType.KEYID_IN_USE,
}
"""The notify for a failed installation; for all other causes TEMPORARY_FAILURE."""


class RefusedError(Exception):
    """The request is answered with this notify, and changes nothing."""

    def __init__(
        self,
        notify: NotifyType,
        cause: str,
        data: bytes = b'',
        policy: SessionPolicy | None = None,
        reason: Reason = Reason.REQUEST,
    ) -> None:
        super().__init__(cause)
        self.notify = notify
        self.cause = cause
        self.data = data
        self.policy = policy
        self.reason = reason


def requested(state: Store, event: RpSaRequested, now: float) -> None:
    """Handle a request for a new MKT: refuse it, or install and then answer."""
    peer = state.peers[event.peer]
    try:
        _requested(state, peer, event, now)
    except RefusedError as refusal:
        state.endpoint.refuse(event.token, refusal.notify, refusal.data, now)
        why = Explanation.of(refusal.reason, 'request from the peer', refusal.cause)
        state.refuse_request(peer, refusal.policy, why, notify=refusal.notify.name)


def find_policy(state: Store, peer: Peer, offer: RpSaOffer) -> SessionPolicy:
    """Return the only session that fits the request. Raises RefusedError (TS_UNACCEPTABLE)."""
    opener, service = offer.tsi, offer.tsr
    if opener.port == service.port:
        raise RefusedError(NotifyType.TS_UNACCEPTABLE, "the opener's port is the service port")
    candidates = [
        policy
        for policy in state.sessions_of.get(peer.pad.name, ())
        if (policy.local, policy.remote, policy.listen_port)
        == (service.address, opener.address, service.port)
    ]
    if not candidates:
        raise RefusedError(
            NotifyType.TS_UNACCEPTABLE,
            f'no session of this peer from {opener.address} to {service.address} port '
            f'{service.port}',
            reason=Reason.NO_SUCH_SESSION,
        )
    pinned = [policy for policy in candidates if policy.peer_port == opener.port]
    named = [policy for policy in pinned or candidates if policy.peer_port in (None, opener.port)]
    if offer.session_id is not None:
        named = [policy for policy in named if policy.session.encode() == offer.session_id]
    elif not pinned:
        named = []
    if len(named) != 1:
        # A port that is not pinned differs each time.
        pins = [str(policy.peer_port) for policy in candidates if policy.peer_port is not None]
        port = (
            f'source port {opener.port} of {opener.address} (peer-port here: {" ".join(pins)}) and '
        )
        raise RefusedError(
            NotifyType.TS_UNACCEPTABLE,
            f'{len(named) or "no"} sessions fit {port if pins else ""}its families',
            reason=Reason.AMBIGUOUS_SESSION,
        )
    return named[0]


def choose(state: Store, policy: SessionPolicy, offer: RpSaOffer) -> str:
    """Return the first suite of ours that is on offer. Raises RefusedError (NO_PROPOSAL_CHOSEN)."""
    for name in policy.algorithms:
        if name in state.algorithms and (name, policy.tcp_options) in offer.proposals:
            return name
    raise RefusedError(
        NotifyType.NO_PROPOSAL_CHOSEN,
        f'the peer offers {_several(name for name, _ in offer.proposals)} with tcp-options '
        f'{_several(_OPTIONS[options] for _, options in offer.proposals)}, allowed here is '
        f'{_several(policy.algorithms)} with tcp-options {_OPTIONS[policy.tcp_options]}',
        policy=policy,
        reason=Reason.NO_COMMON_ALGORITHM,
    )


_OPTIONS = {True: 'included', False: 'excluded'}


def _several(names: Iterable[str]) -> str:
    return ' or '.join(dict.fromkeys(names)) or 'nothing known'


def take_ids(
    state: Store, peer: Peer, policy: SessionPolicy, pair: SocketPair, offer: RpSaOffer, now: float
) -> int:
    """Take the peer's SendID as RecvID, and one of ours.

    Raises RefusedError; neither is taken then.
    """
    in_use = state.recv_ids_in_use(peer, pair, now)
    if offer.keyid in in_use or not offer.keyid:
        raise RefusedError(
            NotifyType.KEYID_IN_USE,
            f'KeyID {offer.keyid} is in use',
            bytes(sorted(in_use | {offer.keyid})),
            policy,
        )
    try:
        send_id = state.take_send_id(peer, pair, now, offer.keyids_in_use)
    except NoKeyIdError as error:
        raise RefusedError(NotifyType.TEMPORARY_FAILURE, str(error), policy=policy) from None
    peer.keyids.take_recv_id(offer.keyid)
    return send_id


def _requested(state: Store, peer: Peer, event: RpSaRequested, now: float) -> None:
    offer = event.offer
    policy = find_policy(state, peer, offer)
    withheld = state.why_withheld(policy)
    if withheld is not None:
        # To the peer it is as if there were no such session.
        raise RefusedError(
            NotifyType.TS_UNACCEPTABLE, withheld.cause, policy=policy, reason=withheld.reason
        )
    suite = choose(state, policy, offer)
    pair = SocketPair(offer.tsr.address, offer.tsr.port, offer.tsi.address, offer.tsi.port)
    old = state.connections.get(pair)
    if old is not None and old.phase in (Phase.PROVING, Phase.PROVEN, Phase.ENDING):
        # A new request means "I have no connection on this socket pair": an old one here would drop
        # every new SYN. The new key is installed only when the daemon has closed the old
        # connection.
        ending.refuse_replacement(state, old, now)
        old.replacement = event
        ending.abort(state, old, 'replaced by a new request of the peer', now)
        state.deadlines.set(Due.REPLACED, old, now + ABORT_WITHIN)
        return
    for other in state.connections_with(peer):
        # One pending MKT per session and opener, and per pair, for any session: a newer request
        # replaces it.
        if (
            (other.policy.key == policy.key or other is old)
            and not other.opener
            and other.phase in (Phase.NEGOTIATING, Phase.WAITING)
        ):
            ending.drop(state, other, now, tell_peer=False)
    if not state.has_room(peer, policy):
        raise RefusedError(
            NotifyType.NO_ADDITIONAL_SAS, 'too many sessions with this peer', policy=policy
        )
    send_id = take_ids(state, peer, policy, pair, offer, now)
    life = state.new_life(policy, peer, pair, send_id, initiator=False)
    life.token = event.token
    conn = Connection(pair, policy, peer, opener=False, mkt_in_use=life, since=now)
    conn.keys = NegotiatedKeys(state, conn)
    state.connections[pair] = conn
    life.promised_recv_id = offer.keyid
    keys = state.endpoint.prepare(
        event.token, suite, policy.tcp_options, send_id, policy.lifetime, now
    )
    if keys is not None:
        prepared(state, conn, keys, now)


def prepared(state: Store, conn: Connection, keys: RpSaKeys, now: float) -> None:
    """Install the key, which is there at once or after additional key exchanges; then answer."""
    life = conn.mkt_in_use
    state.give_key(conn, life, keys, conn.policy.lifetime, now)
    life.on_listener = True
    state.command(Install(life.key, Where.LISTENER))


def abandoned(state: Store, conn: Connection, now: float) -> None:
    """Drop a request that the peer never completed."""
    conn.mkt_in_use.token = None
    ending.drop(state, conn, now, tell_peer=False)


def not_closed(state: Store, conn: Connection, now: float) -> None:
    """Refuse the new request (Due.REPLACED): the daemon did not close the old connection in
    time.
    """
    ending.refuse_replacement(state, conn, now)


def installed(state: Store, conn: Connection, now: float) -> None:
    """Answer, now that the SYN would be accepted, and hold the key for a limited time."""
    life = conn.mkt_in_use
    life.move(MktState.INSTALLED)
    conn.phase = Phase.WAITING
    state.note_installed(conn, life)
    if life.token is not None:
        token, life.token = life.token, None
        if not state.endpoint.answer(token, now):
            # The peer repeats its request, over the next IKE SA.
            ending.drop(state, conn, now, tell_peer=False)
            return
    wait_for_syn(state, conn, now)


def wait_for_syn(state: Store, conn: Connection, now: float) -> None:
    """Hold the key on the listener for a limited time, and never beyond its hard lifetime."""
    state.deadlines.set(Due.SYN, conn, min(now + LISTENER_HOLDS, conn.mkt_in_use.hard_at))


def not_installed(state: Store, conn: Connection, failure: Failed, now: float) -> None:
    """Refuse with the reason; the exchange fails and leaves nothing."""
    life, peer = conn.mkt_in_use, conn.peer
    life.on_listener = False
    state.refuse(
        conn.policy,
        'installing the key on the listener',
        failure.text,
        BY_INSTALLER.get(failure.cause, Reason.KEY_REFUSED),
    )
    if life.token is not None:
        notify = REFUSALS.get(failure.cause, NotifyType.TEMPORARY_FAILURE)
        data = bytes(sorted(peer.keyids.receiving)) if notify is NotifyType.KEYID_IN_USE else b''
        state.endpoint.refuse(life.token, notify, data, now)
        life.token = None
    life.end(MktState.FAILED)
    state.release(peer, life)
    ending.forget(state, conn)


def remove(state: Store, mkt: Mkt, now: float) -> None:
    """Remove a key from the listener (Due.LISTENER)."""
    state.command(Remove(mkt, Where.LISTENER))


def not_removed(state: Store, mkt: Mkt, failure: Failed, now: float) -> None:
    """Retry the removal: a key on the listener lets a recorded connection be replayed."""
    if failure.cause is not Cause.GONE:
        state.note(
            None,
            EventName.REFUSED,
            step='taking a key off the listener',
            cause=failure.text,
            pair=mkt.protects,
            send_id=mkt.send_id,
        )
        state.deadlines.set(Due.LISTENER, mkt, now + RETRY_REMOVE)
