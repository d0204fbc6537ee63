"""Why a peer with manual keys doesn't come up: what the backend has dropped, in words.

With negotiated keys IKE has said it. With a keychain nothing is said between the two ends, and a
SYN that fits no key just vanishes.
"""

from __future__ import annotations

from gatekeeper.policy.keychain import Keychain
from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.reporting.explanations import HINTS, Explanation
from gatekeeper.state.connection import Phase
from gatekeeper.state.store import Store
from tcpao.refusal import DroppedSyn, Reason


def syn_dropped(state: Store, refusal: DroppedSyn, now: float) -> None:
    """Tell it of every session with a keychain that it may have been for, unless that is up."""
    up = {conn.policy.key for conn in state.connections.values() if conn.phase is Phase.PROVEN}
    for policy in state.policies.values():
        if policy.keychain is not None and policy.key not in up and _is_for(policy, refusal):
            trouble = _trouble(policy.keychain, refusal, state.wall(now))
            state.refuse(policy, trouble.step, trouble.cause, trouble.hint)


def _is_for(policy: SessionPolicy, refusal: DroppedSyn) -> bool:
    pair = refusal.pair
    if (policy.local, policy.remote) != (pair.local, pair.remote):
        return False
    if refusal.is_answer:
        return policy.connect_port == pair.remote_port
    return policy.listen_port == pair.local_port


def _trouble(chain: Keychain, refusal: DroppedSyn, wall: float) -> Explanation:
    what = 'answer to our SYN' if refusal.is_answer else 'SYN'
    step = f"the peer's {what}"
    match refusal.reason:
        case Reason.UNSIGNED:
            return Explanation(step, 'it has no TCP-AO', HINTS['unsigned'])
        case Reason.UNKNOWN_KEY:
            denied = chain.why_denied(wall) if chain.preferred(wall) is None else ''
            held = ' '.join(str(key.recv_id) for key in chain.accepted(wall)) or 'none'
            cause = f'it is under KeyID {refusal.key_id}, recv-ids accepted now: {held}'
            return Explanation(step, f'{cause}; {denied}' if denied else cause, HINTS['ids'])
        case Reason.BAD_MAC:
            found = [key for key in chain.accepted(wall) if key.recv_id == refusal.key_id]
            name = str(found[0]) if found else f'KeyID {refusal.key_id}'
            return Explanation(step, f'its MAC is wrong under {name}', HINTS['mac'])
