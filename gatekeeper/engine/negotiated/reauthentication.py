"""A changed PAD entry: proofs are judged again, or the peer has to prove itself again.

Every IKE SA and every MKT is judged by its own proof. New trust anchors and CRLs judge them at
once: those that fail end, all others go on. After a change of a credential a new proof is
needed: every MKT from before the change has REPROVE_WITHIN to get a successor under that proof. The
peer that proves itself may not be the one that holds the MKT. A change of anything else
renegotiates all MKTs, and sets no limit but their hard lifetime.
"""

from __future__ import annotations

from dataclasses import replace

from gatekeeper.engine.negotiated import revocation
from gatekeeper.reporting.explanations import Explanation
from gatekeeper.reporting.reasons import Reason
from gatekeeper.state.connection import Connection, Phase
from gatekeeper.state.deadlines import Due
from gatekeeper.state.limits import REPROVE_WITHIN
from gatekeeper.state.mkt_record import MktRecord
from gatekeeper.state.peer import Peer
from gatekeeper.state.store import Store
from ikev2.authentication.credentials import TrustAnchors
from ikev2.errors import AuthenticationFailed
from ikev2.events import IkeSaDistrusted
from ikev2.peer import Peer as IkePeer

UNPROVEN = f'the peer did not prove itself by its new credential within {REPROVE_WITHIN:.0f} s'
UNRENEWED = (
    'this key is from before the change of a credential, and the peer did not replace it within '
    f'{REPROVE_WITHIN:.0f} s'
)


def begin(state: Store, peer: Peer, after: IkePeer, now: float) -> None:
    """Prepare for a change of the entry to `after`, between the same two identities."""
    before, credential = peer.ike, after.remote_credential
    judged = isinstance(credential, TrustAnchors) and isinstance(
        before.remote_credential, TrustAnchors
    )
    if judged and credential != before.remote_credential:
        _judge_mkts(state, peer, after, now)
    if judged and replace(before, remote_credential=credential) == after:
        state.endpoint.change_trust(after, now)
        peer.ike = after
        return
    peer.renew, peer.changed_at = True, now
    if before.credential != after.credential or (
        not judged and credential != before.remote_credential
    ):
        _limit_mkts(state, peer, now)


def _judge_mkts(state: Store, peer: Peer, after: IkePeer, now: float) -> None:
    """Revoke each MKT whose own proof does not hold any more."""
    failed: dict[str, list[MktRecord]] = {}
    wall = state.wall(now)
    for mkt in _mkts(state, peer):
        if mkt.proof is None:
            continue
        try:
            mkt.proof.judge(after.remote_credential, wall)
        except AuthenticationFailed as error:
            failed.setdefault(str(error), []).append(mkt)
    for cause, mkts in failed.items():
        revocation.revoke(state, peer, mkts, _explanation(cause), now)


def _limit_mkts(state: Store, peer: Peer, now: float) -> None:
    """Limit every MKT from before this change: it needs a successor within that time."""
    for mkt in _mkts(state, peer):
        if mkt.mkt is not None and mkt.limited is None:
            mkt.limited = UNPROVEN
            mkt.hard_at = min(mkt.hard_at, now + REPROVE_WITHIN)
    for conn in state.connections_with(peer):
        _set_deadlines(state, conn)


def _set_deadlines(state: Store, conn: Connection) -> None:
    if conn.phase is Phase.ENDING:
        return
    if conn.mkt_in_use.limited is not None:
        state.deadlines.cancel(Due.CEASE, conn)
        state.deadlines.set(Due.HARD, conn, conn.mkt_in_use.hard_at)
    for mkt in conn.retiring:
        if mkt.limited is not None:
            state.deadlines.set(Due.RETIRE, mkt, mkt.hard_at)


def _mkts(state: Store, peer: Peer) -> list[MktRecord]:
    return [mkt for conn in state.connections_with(peer) for mkt in conn.mkts()]


def _explanation(cause: str) -> Explanation:
    return Explanation.of(Reason.CREDENTIAL, 'configuration', cause)


def proven(state: Store, peer: Peer, now: float) -> None:
    """Replace the MKTs from before, now that an IKE SA is up by the present entry."""
    if not peer.renew:
        return
    peer.renew = False
    for conn in state.connections_with(peer):
        if conn.phase is Phase.PROVEN:
            state.deadlines.set(Due.REKEY, conn, now)
        for mkt in conn.mkts():
            if mkt.limited is not None:
                mkt.limited = UNRENEWED


def distrusted(state: Store, peer: Peer, event: IkeSaDistrusted) -> None:
    """Report the end of one IKE SA, whose own proof does not hold any more."""
    why = _explanation(event.text)
    state.tell_peer(peer, why, spis=event.spis)
