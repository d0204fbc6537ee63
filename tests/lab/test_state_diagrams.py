"""docs/states.md is what the transition tables say."""

from __future__ import annotations

import pytest

from gatekeeper.state.mkt_record import MktState
from ikev2.sa.transitions import State
from lab.state_diagrams import ike_sa, mkt, page
from lab.unprivileged import PROJECT


def test_page_is_current() -> None:
    assert (PROJECT / 'docs' / 'states.md').read_text() == page(), (
        'run `python -m lab.state_diagrams > docs/states.md`'
    )


@pytest.mark.parametrize(('text', 'states'), [(mkt(), MktState), (ike_sa(), State)])
def test_every_state_is_drawn(text: str, states: type[MktState] | type[State]) -> None:
    assert all(state.name in text for state in states)


def test_diagram_changes_when_the_table_does() -> None:
    assert mkt({MktState.REQUESTED: frozenset({MktState.GONE})}) != mkt()
