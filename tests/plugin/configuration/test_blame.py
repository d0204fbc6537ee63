"""The search for the one of a thousand sections that doesn't go with those before it.

It has to be quick: the daemon stands still meanwhile.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from gatekeeper.configuration.location import ConfigurationError, Location
from gatekeeper.policy.sessions import SessionPolicy, check
from plugin.configuration import session_policies as policies
from plugin.configuration.ikev2_section import SCOPE
from tests.gatekeeper.engine.test_many_neighbors import NEIGHBORS, neighbors
from tests.gatekeeper.manual_world import key


def blamed(made: list[SessionPolicy]) -> str:
    gated = {
        one.key: {SCOPE: SimpleNamespace(place=Location('r1.conf', number))}
        for number, one in enumerate(made)
    }
    with pytest.raises(ConfigurationError) as caught:
        policies._blame(made, gated)
    return str(caught.value)


@pytest.mark.parametrize('bad', [0, 1, 499, NEIGHBORS - 1])
def test_first_wrong_block_is_named(bad: int, monkeypatch: pytest.MonkeyPatch) -> None:
    checks: list[Any] = []

    def counted(some: list[SessionPolicy]) -> None:
        checks.append(some)
        check(some)

    monkeypatch.setattr(policies, 'check', counted)
    made = neighbors([key(1)])
    for number in {bad, NEIGHBORS - 1}:
        made[number] = replace(made[number], lifetime=1)
    said = blamed(made)
    assert f'neighbor {made[bad].neighbor} ' in said
    assert 'is shorter than' in said
    assert len(checks) <= 12
