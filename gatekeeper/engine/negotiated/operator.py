"""What an operator does to negotiated keys: rekey, revoke, and take a revocation back.

Each says what it did. A revocation takes effect at once and outlives a reload: a session that a
`Selection` names gets no key until it is taken back.
"""

from __future__ import annotations

from gatekeeper.engine import ending
from gatekeeper.reporting.reasons import Reason
from gatekeeper.state.connection import Connection, Phase
from gatekeeper.state.deadlines import Due
from gatekeeper.state.selection import REVOKED_BY_OPERATOR, Selection
from gatekeeper.state.store import Store


def rekey(state: Store, selection: Selection, now: float) -> int:
    """Have the keys in use replaced now; return how many are."""
    found = [conn for conn in _chosen(state, selection) if conn.phase is Phase.PROVEN]
    for conn in found:
        state.deadlines.set(Due.REKEY, conn, now)
    return len(found)


def revoke(state: Store, selection: Selection, now: float) -> int:
    """Take the keys of these sessions away, and give them none; return how many connections end."""
    if selection not in state.revoked:
        state.revoked.append(selection)
    found = [conn for conn in _chosen(state, selection) if conn.phase is not Phase.ENDING]
    for conn in found:
        for mkt in conn.mkts():
            mkt.revoked = True
        state.refuse(conn.policy, 'operator', REVOKED_BY_OPERATOR, Reason.REVOKED)
        ending.abort(state, conn, REVOKED_BY_OPERATOR, now)
    return len(found)


def restore(state: Store, selection: Selection) -> bool:
    """Take a revocation back, as it was said; return False if there is none like it."""
    if selection not in state.revoked:
        return False
    state.revoked.remove(selection)
    for policy in state.policies.values():
        if selection.matches(policy):
            state.errors.pop(policy.key, None)
    return True


def _chosen(state: Store, selection: Selection) -> list[Connection]:
    return [
        conn
        for conn in state.connections.values()
        if conn.manual is None and selection.matches(conn.policy)
    ]
