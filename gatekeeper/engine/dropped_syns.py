"""Explanations of a peer that does not come up: the backend's dropped segments, as texts.

With a keychain the two ends exchange no other messages, and a SYN that fits no key is dropped
silently. With negotiated keys IKE reports its failures; later failures of segments are visible to
the packet path only.
"""

from __future__ import annotations

from gatekeeper.policy.keychain import Keychain
from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.reporting.explanations import UNSEEN, Explanation
from gatekeeper.reporting.reasons import Reason
from gatekeeper.state.connection import Connection, Phase
from gatekeeper.state.limits import LISTENER_HOLDS
from gatekeeper.state.store import Store
from tcpao import refusal as path
from tcpao.installer import KeyState, Read
from tcpao.refusal import DroppedSyn

_NEGOTIATED = {
    path.Reason.UNSIGNED: (Reason.UNSIGNED_NEGOTIATED, 'it has no TCP-AO'),
    path.Reason.UNKNOWN_KEY: (Reason.OLD_KEY_ID, 'it is under KeyID {key_id}, not a key of now'),
    path.Reason.BAD_MAC: (
        Reason.BAD_MAC_NEGOTIATED,
        'its MAC is wrong under the negotiated key, KeyID {key_id}',
    ),
    path.Reason.BYPASSED: (Reason.UNSEEN, UNSEEN),
}


def syn_dropped(state: Store, refusal: DroppedSyn, now: float) -> None:
    """Report a dropped SYN for every session that it may belong to, unless that is up."""
    up = {conn.policy.key for conn in state.connections.values() if conn.phase is Phase.PROVEN}
    for policy in state.policies.values():
        if policy.key in up or not _is_for(policy, refusal):
            continue
        if policy.keychain is None:
            reason, cause = _NEGOTIATED[refusal.reason]
            state.refuse(policy, _step(refusal), cause.format(key_id=refusal.key_id), reason)
        else:
            trouble = _trouble(policy.keychain, refusal, state.wall(now))
            state.refuse(policy, trouble.step, trouble.cause, trouble.reason)


def look_for_answers(state: Store, conn: Connection, now: float) -> None:
    """Read the socket's counters (Due.SYN_ANSWER): a kernel reports no drops, but it counts
    them.
    """
    if conn.phase is Phase.WAITING and conn.opener:
        state.command(Read(conn.pair))


def read_answers(state: Store, conn: Connection, seen: KeyState) -> None:
    """Explain the counters of a socket whose SYN has no good answer."""
    bad = sum(key.bad for key in seen.keys)
    manual = conn.policy.keychain is not None
    if bad:
        reason = Reason.BAD_MAC if manual else Reason.BAD_MAC_NEGOTIATED
        cause = f'its MAC is wrong under our key ({bad} segments)'
    elif seen.unsigned:
        reason = Reason.UNSIGNED if manual else Reason.UNSIGNED_NEGOTIATED
        cause = f'it has no TCP-AO ({seen.unsigned} segments)'
    elif seen.not_found:
        reason = Reason.UNKNOWN_KEY_ID if manual else Reason.OLD_KEY_ID
        cause = f'it is under a KeyID that is none of ours ({seen.not_found} segments)'
    else:
        return
    state.refuse(conn.policy, "the peer's answer to our SYN", cause, reason)


def syn_never_came(state: Store, conn: Connection) -> None:
    """Report that the peer requested a key and never used it (Due.SYN)."""
    cause = f'it has not come within {LISTENER_HOLDS:.0f} s of the key that the peer asked for'
    state.refuse(conn.policy, "the peer's SYN", cause, Reason.NO_SYN)


def _is_for(policy: SessionPolicy, refusal: DroppedSyn) -> bool:
    pair = refusal.pair
    if (policy.local, policy.remote) != (pair.local, pair.remote):
        return False
    if refusal.is_answer:
        ours = policy.source_port in (None, pair.local_port)
        return ours and policy.connect_port == pair.remote_port
    theirs = policy.peer_port in (None, pair.remote_port)
    return theirs and policy.listen_port == pair.local_port


def _step(refusal: DroppedSyn) -> str:
    return f"the peer's {'answer to our SYN' if refusal.is_answer else 'SYN'}"


def _trouble(chain: Keychain, refusal: DroppedSyn, wall: float) -> Explanation:
    step = _step(refusal)
    match refusal.reason:
        case path.Reason.UNSIGNED:
            return Explanation.of(Reason.UNSIGNED, step, 'it has no TCP-AO')
        case path.Reason.UNKNOWN_KEY:
            denied = chain.why_denied(wall) if chain.preferred(wall) is None else ''
            held = ' '.join(str(key.recv_id) for key in chain.accepted(wall)) or 'none'
            cause = f'it is under KeyID {refusal.key_id}, recv-ids accepted now: {held}'
            cause = f'{cause}; {denied}' if denied else cause
            return Explanation.of(Reason.UNKNOWN_KEY_ID, step, cause)
        case path.Reason.BYPASSED:
            return Explanation.of(Reason.UNSEEN, 'proof', UNSEEN)
        case path.Reason.BAD_MAC:
            found = [key for key in chain.accepted(wall) if key.recv_id == refusal.key_id]
            name = str(found[0]) if found else f'KeyID {refusal.key_id}'
            return Explanation.of(Reason.BAD_MAC, step, f'its MAC is wrong under {name}')
