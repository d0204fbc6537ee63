"""An operator's operations on negotiated keys: rekey, revoke, drain, and undoing the last two.

Each is an event of every selected session, and returns its result. A revocation, or a drain, takes
effect at once and outlives a reload: a session of the `Selection` gets no key until it is undone.
"""

from __future__ import annotations

from gatekeeper.engine import ending
from gatekeeper.errors import GatekeeperError
from gatekeeper.reporting.events import EventName
from gatekeeper.state.connection import Connection, Phase
from gatekeeper.state.deadlines import Due
from gatekeeper.state.selection import Operated, Operation, Selection, Withheld
from gatekeeper.state.store import Store


def operate(state: Store, operation: Operation, selection: Selection, now: float) -> Operated:
    """Do the operation, and return its result.

    Raises GatekeeperError if no session with negotiated keys is selected, or if there is nothing to
    undo.
    """
    meant = [policy for policy in state.policies.values() if selection.matches(policy)]
    if not meant and operation not in _TAKES_BACK:
        raise GatekeeperError(f'no session with negotiated keys is {selection}')
    sessions = f'{len(meant)} session{"s" * (len(meant) != 1)}'
    if operation in _TAKES_BACK:
        if not restore(state, selection, _TAKES_BACK[operation]):
            told = ', '.join(f'{why.name.lower()}: {one}' for one, why in state.withheld.items())
            raise GatekeeperError(f'{selection} is not to be taken back; {told or "nothing is"}')
        return Operated(0, f'{sessions} may have keys again')
    count = _DOES[operation](state, selection, now)
    return Operated(count, f'{sessions}: {_DONE[operation].format(count=count)}')


def rekey(state: Store, selection: Selection, now: float) -> int:
    """Have the keys in use replaced now; return their number."""
    found = [conn for conn in _chosen(state, selection) if conn.phase is Phase.PROVEN]
    _tell(state, 'rekey', selection)
    for conn in found:
        state.deadlines.set(Due.REKEY, conn, now)
    return len(found)


def revoke(state: Store, selection: Selection, now: float) -> int:
    """Remove the keys of these sessions, and give them none; return how many connections end."""
    found = _withhold(state, selection, Withheld.REVOKED)
    _tell(state, 'revoke', selection)
    for conn in found:
        for mkt in conn.mkts():
            mkt.revoked = True
        ending.abort(state, conn, Withheld.REVOKED.cause, now)
    return len(found)


def drain(state: Store, selection: Selection, now: float) -> int:
    """End these sessions with NOTIFICATION Cease, and give them no key.

    Returns how many connections end.
    """
    found = _withhold(state, selection, Withheld.DRAINED)
    _tell(state, 'drain', selection)
    for conn in found:
        ending.close(state, conn, Withheld.DRAINED.cause, now)
    return len(found)


def restore(state: Store, selection: Selection, withheld: Withheld) -> bool:
    """Undo a revocation or a drain of the same selection; return False if there is none."""
    if state.withheld.get(selection) is not withheld:
        return False
    del state.withheld[selection]
    _tell(state, 'restore' if withheld is Withheld.REVOKED else 'undrain', selection)
    for policy in state.policies.values():
        if selection.matches(policy) and state.why_withheld(policy) is None:
            state.errors.pop(policy.key, None)
    return True


_TAKES_BACK = {Operation.RESTORE: Withheld.REVOKED, Operation.UNDRAIN: Withheld.DRAINED}
_DOES = {Operation.REKEY: rekey, Operation.REVOKE: revoke, Operation.DRAIN: drain}
_DONE = {
    Operation.REKEY: 'keys being replaced: {count}',
    Operation.REVOKE: 'revoked, connections aborted: {count}; no key until restored',
    Operation.DRAIN: 'drained, connections ending: {count}; no key until undrained',
}


def _withhold(state: Store, selection: Selection, why: Withheld) -> list[Connection]:
    """Keep the decision; return the connections that it ends. A revocation is never weakened."""
    if state.withheld.get(selection) is not Withheld.REVOKED:
        state.withheld[selection] = why
    found = [conn for conn in _chosen(state, selection) if conn.phase is not Phase.ENDING]
    for conn in found:
        state.refuse(conn.policy, 'operator', why.cause, why.reason)
    return found


def _chosen(state: Store, selection: Selection) -> list[Connection]:
    return [
        conn
        for conn in state.connections.values()
        if conn.ike_peer is not None and selection.matches(conn.policy)
    ]


def _tell(state: Store, command: str, selection: Selection) -> None:
    for policy in state.policies.values():
        if selection.matches(policy):
            state.note(policy, EventName.OPERATOR, command=command, selection=selection)
