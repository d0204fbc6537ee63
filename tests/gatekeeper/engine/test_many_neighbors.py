"""A thousand neighbors that share a keychain: a load is checked, and its keys posted, without
holding each of them against all others."""

from __future__ import annotations

import os
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from gatekeeper.engine.core import Core
from gatekeeper.errors import PolicyError
from gatekeeper.policy import sessions as module
from gatekeeper.policy.keychain import ChainKey
from gatekeeper.policy.sessions import SessionPolicy, check
from gatekeeper.state.store import ListenerKey
from tcpao.installer import Done
from tcpao.mkt import ALGORITHMS
from tests.gatekeeper.manual_world import key, sessions

NEIGHBORS = 1000


def neighbors(keys: list[ChainKey]) -> list[SessionPolicy]:
    (first,) = sessions('r2', keys)
    addresses = [ip_address('10.1.0.1') + number for number in range(NEIGHBORS)]
    return [replace(first, key=f'{one}', neighbor=f'{one}', remote=one) for one in addresses]


def test_chain_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    for name in ('check_keychain', '_check_both'):
        original = getattr(module, name)

        def counted(*arguments: Any, original: Any = original) -> Any:
            calls.append(arguments)
            return original(*arguments)

        monkeypatch.setattr(module, name, counted)
    check(neighbors([key(1), key(2)]))
    assert len(calls) == 1


def test_two_chains_of_one_name_are_refused_wherever_they_stand() -> None:
    policies = neighbors([key(1)])
    (other,) = sessions('r2', [key(2)])
    policies[-1] = replace(policies[-1], keychain=other.keychain)
    with pytest.raises(PolicyError, match='two keychains have the name core'):
        check(policies)


def test_posted_key_is_told_without_a_look_at_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    core = Core(
        random=os.urandom, ike_ports=(500, 4500), algorithms=frozenset(ALGORITHMS), backend='memory'
    )
    core.configure(neighbors([key(1), key(2)]), 10.0)
    commands = core.take_commands()
    assert len(commands) == 2 * NEIGHBORS
    looks: list[ListenerKey] = []
    mkt = ListenerKey.__dict__['mkt']

    def look(posted: ListenerKey) -> Any:
        looks.append(posted)
        return mkt.__get__(posted)

    monkeypatch.setattr(ListenerKey, 'mkt', property(look))
    core.handle(Done(commands[-1]), 10.0)
    assert [note.details['send_id'] for note in core.take_notes()] == [22]
    assert len(looks) < 20
