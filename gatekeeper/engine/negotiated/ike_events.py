"""The events of the IKE endpoint, each handed to its handler.

Events of an IKE SA change its peer here; the others concern a session.
"""

from __future__ import annotations

from gatekeeper.engine.negotiated import accepting, opening, rekeying, unknown_sources
from gatekeeper.engine.negotiated import deletion as deleting
from gatekeeper.engine.negotiated import reauthentication as reproving
from gatekeeper.reporting.events import EventName
from gatekeeper.reporting.explanations import REFUSED_US, Explanation, explain_ike_failure
from gatekeeper.reporting.reasons import Reason
from gatekeeper.state.deadlines import Due
from gatekeeper.state.limits import IKE_BACKOFF, TELLS_AGAIN, backoff
from gatekeeper.state.peer import Peer
from gatekeeper.state.store import Store
from ikev2 import events as ike


def drain(state: Store, now: float) -> None:
    """Handle all events."""
    while (event := state.endpoint.next_event()) is not None:
        handle(state, event, now)


def handle(state: Store, event: ike.Event, now: float) -> None:
    """Handle one event; events of a peer that was removed are ignored."""
    if isinstance(event, ike.UnknownSource):
        unknown_sources.report_unknown_source(state, event, now)
        return
    peer = state.peers.get(event.peer)
    if peer is None:
        return
    match event:
        case ike.IkeMessage():
            _ike_message(state, peer, event)
        case ike.IkeSaUp():
            peer.up = True
            if event.initiator:
                # As responder we don't know yet that the peer accepts our proof.
                peer.attempts = 0
            peer.trouble = None
            state.deadlines.cancel(Due.IKE, peer)
            reproving.proven(state, peer, now)
            state.delete_again(peer, now)
        case ike.IkeSaDown(cause=ike.Cause.STOPPED):
            # A reload replaces the peer at the endpoint: no failure, and its successor connects.
            peer.up = False
        case ike.IkeSaDown():
            peer.up = False
            refused = event.cause is ike.Cause.AUTHENTICATION_FAILED
            step, why = ('IKE_AUTH', REFUSED_US) if refused else ('IKE', event.text)
            down = ike.IkeSaFailed(event.peer, step, event.cause, why)
            state.refuse_peer(peer, explain_ike_failure(down))
            if not refused:
                peer.attempts = 0
            _ike_again(state, peer, now)
        case ike.IkeSaDistrusted():
            reproving.distrusted(state, peer, event)
        case ike.IkeSaFailed():
            # Cause and text separately, for programs that read timelines.
            state.refuse_peer(peer, explain_ike_failure(event), cause=event.cause, text=event.text)
            if not peer.up:
                _ike_again(state, peer, now)
        case ike.InitialContact():
            deleting.initial_contact(state, event, now)
        case ike.RpSaRequested(offer=offer) if offer.rekey_keyid is not None:
            rekeying.requested(state, event, now)
        case ike.RpSaRequested():
            accepting.requested(state, event, now)
        case ike.RpSaPrepared() | ike.RpSaAbandoned():
            _prepared(state, event, now)
        case ike.RpSaNegotiated():
            _negotiated(state, event, now)
        case ike.RpSaFailed():
            _failed(state, event, now)
        case ike.KeysDeleted():
            deleting.keys_deleted(state, event, now)
        case ike.DeleteAnswered():
            deleting.delete_answered(state, event, now)
            if not event.answered:
                _ike_again(state, peer, now)


def send_failed(state: Store, failure: ike.SendFailure, now: float) -> None:
    """Report a failure to send to the peer at that address, unless IKE works: ICMP may be
    forged.
    """
    reason, says = Reason.SEND_REFUSED, 'this host could not send'
    if failure.from_icmp:
        reason = Reason.NOBODY_AT_PORT if failure.is_port_closed else Reason.UNREACHABLE
        says = 'ICMP says'
    for peer in state.peers.values():
        if peer.up or all(remote != failure.remote for _, remote in peer.ike.addresses):
            continue
        if peer.trouble is None or now >= peer.silent_until.get(reason, now):
            peer.silent_until[reason] = now + TELLS_AGAIN
            state.refuse_peer(peer, Explanation.of(reason, 'IKE', f'{says}: {failure.text}'))


def _ike_message(state: Store, peer: Peer, event: ike.IkeMessage) -> None:
    name = {'IKE_SA_INIT': EventName.IKE_INIT, 'IKE_AUTH': EventName.IKE_AUTH}.get(event.exchange)
    if name is not None:
        state.note(
            None,
            name,
            sent=event.sent,
            response=event.response,
            detail=event.detail,
            peer_id=peer.pad.peer_id,
        )


def _ike_again(state: Store, peer: Peer, now: float) -> None:
    if state.deadlines.is_set(Due.IKE, peer):
        # Messages that attackers send in its name must not delay it for ever.
        return
    wait = backoff(IKE_BACKOFF, peer.attempts, state.fraction())
    peer.attempts += 1
    state.deadlines.set(Due.IKE, peer, now + wait)


def _prepared(state: Store, event: ike.RpSaPrepared | ike.RpSaAbandoned, now: float) -> None:
    """Go on after the peer's additional key exchanges, or drop its request."""
    for conn in state.connections_with(state.peers[event.peer]):
        for life in conn.mkts():
            if life.token != event.token:
                continue
            match event, life is conn.mkt_in_use:
                case ike.RpSaPrepared(keys=keys), True:
                    accepting.prepared(state, conn, keys, now)
                case ike.RpSaPrepared(keys=keys), False:
                    rekeying.prepared(state, conn, life, keys, now)
                case ike.RpSaAbandoned(), True:
                    accepting.abandoned(state, conn, now)
                case ike.RpSaAbandoned(), False:
                    rekeying.abandoned(state, conn, life, now)
            return


def _negotiated(state: Store, event: ike.RpSaNegotiated, now: float) -> None:
    asked = state.exchanges.pop(event.exchange, None)
    if asked is None:
        event.keys.master_key.wipe()
        return
    conn, life = asked
    life.exchange = None
    if life is conn.mkt_in_use:
        opening.negotiated(state, conn, event.keys, now)
    else:
        rekeying.negotiated(state, conn, life, event.keys, now)


def _failed(state: Store, event: ike.RpSaFailed, now: float) -> None:
    asked = state.exchanges.pop(event.exchange, None)
    if asked is None:
        return
    conn, life = asked
    life.exchange = None
    if life is conn.mkt_in_use:
        opening.refused(state, conn, event, now)
    else:
        rekeying.failed(state, conn, life, event, now)
