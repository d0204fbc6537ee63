"""The generator of docs/states.md from the transition tables: Mermaid, which code hosts draw.

Run `python -m lab.state_diagrams > docs/states.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from gatekeeper.state.mkt_record import TRANSITIONS as MKT_TRANSITIONS
from gatekeeper.state.mkt_record import MktState
from ikev2.sa.transitions import TRANSITIONS as IKE_SA_TRANSITIONS
from ikev2.sa.transitions import State

HEAD = """\
# States

Made by `python -m lab.state_diagrams` from the tables that the code itself uses; a test holds them
to be the same.
"""
Step = tuple[str, str, str]
"""From, to, and the event."""


def diagram(first: Iterable[StrEnum], steps: Iterable[Step], last: Iterable[StrEnum]) -> str:
    """Return a state diagram; names of states with the texts that operators see."""
    lines = ['```mermaid', 'stateDiagram-v2']
    lines += [f'    [*] --> {state.name}' for state in first]
    lines += [
        f'    {before} --> {after}' + (f': {what}' if what else '') for before, after, what in steps
    ]
    lines += [f'    {state.name} --> [*]' for state in last]
    return '\n'.join([*lines, '```'])


def ike_sa() -> str:
    """Return the diagram of an IKE SA."""
    steps = [
        (before.name, after.name, happening.value)
        for (before, happening), after in IKE_SA_TRANSITIONS.items()
    ]
    return diagram((State.AUTH_SENT, State.HALF_OPEN, State.ESTABLISHED), steps, (State.CLOSED,))


def mkt(transitions: Mapping[MktState, frozenset[MktState]] = MKT_TRANSITIONS) -> str:
    """Return the diagram of an MKT."""
    order = list(MktState)
    steps = [
        (before.name, after.name, '')
        for before, afters in transitions.items()
        for after in sorted(afters, key=order.index)
    ]
    ended = [state for state, afters in transitions.items() if not afters]
    return diagram((MktState.REQUESTED,), steps, ended)


def page() -> str:
    """Return the whole page."""
    return '\n'.join(
        [
            HEAD,
            '## An MKT (`gatekeeper/state/mkt_record.py`)\n',
            'One of a keychain has its key from the beginning, and is never only requested.\n',
            mkt(),
            '\n## An IKE SA (`ikev2/sa/transitions.py`)\n',
            'HALF_OPEN if the peer began it, AUTH_SENT if we did, ESTABLISHED if by a rekey.\n',
            ike_sa(),
            '',
        ]
    )


if __name__ == '__main__':
    print(page(), end='')
