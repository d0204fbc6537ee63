"""A changed PAD entry: the peer proves itself anew, and all MKTs with it are renegotiated.

Sessions run on meanwhile, for they rest on the peer's last proof: as long as that would do under
the new entry, and for REPROVE_WITHIN where only a new proof can tell (another pre-shared key,
another pinned key). A certificate is judged again at once; if new trust anchors or CRLs are all
that is new, and they vouch for it, nothing else happens.
"""

from __future__ import annotations

from dataclasses import replace

from gatekeeper.engine import ending
from gatekeeper.reporting.explanations import HINTS
from gatekeeper.state.connection import Phase
from gatekeeper.state.deadlines import Due
from gatekeeper.state.limits import REPROVE_WITHIN
from gatekeeper.state.peer import Peer
from gatekeeper.state.store import Store
from ikev2.authentication.proof import proven_until
from ikev2.errors import AuthenticationFailed
from ikev2.events import Cause
from ikev2.peer import Peer as IkePeer


def begin(state: Store, peer: Peer, after: IkePeer, now: float) -> None:
    """The entry is about to change to `after`, between the same two identities."""
    credential = after.remote_credential
    if credential != peer.ike.remote_credential:
        wall = state.wall(now)
        try:
            until = proven_until(peer.proof, credential, after.remote_id, wall)
        except AuthenticationFailed as error:
            peer.renew = True
            _end(state, peer, str(error), now)
            return
        if until is None and not state.deadlines.is_set(Due.REPROVE, peer):
            state.deadlines.set(Due.REPROVE, peer, now + REPROVE_WITHIN)
        elif until is not None and replace(peer.ike, remote_credential=credential) == after:
            peer.proven_until = now + until - wall
            state.endpoint.change_trust(after, peer.proven_until, now)
            peer.ike = after
            return
    peer.renew = True


def proven(state: Store, peer: Peer, now: float) -> None:
    """An IKE SA is up, by the entry as it is now."""
    state.deadlines.cancel(Due.REPROVE, peer)
    if not peer.renew:
        return
    peer.renew = False
    peer.renew_before = now
    for conn in state.connections_with(peer):
        if conn.phase is Phase.PROVEN:
            state.deadlines.set(Due.REKEY, conn, now)


def too_late(state: Store, peer: Peer, now: float) -> None:
    """Due.REPROVE."""
    cause = f'the peer did not prove itself by its new credential within {REPROVE_WITHIN:.0f} s'
    _end(state, peer, cause, now)


def _end(state: Store, peer: Peer, cause: str, now: float) -> None:
    for conn in state.connections_with(peer):
        if conn.phase is not Phase.ENDING:
            hint = HINTS[Cause.AUTHENTICATION_FAILED]
            state.refuse(conn.policy, 'configuration', cause, hint)
            ending.abort(state, conn, cause, now)
