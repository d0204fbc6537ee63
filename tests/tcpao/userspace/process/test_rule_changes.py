"""Changes of rules beside the thread that judges packets. Rules are doubles."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Iterator, Set
from ipaddress import ip_network
from typing import cast

import pytest

from tcpao.userspace.process.rule_changes import RuleChanges
from tcpao.userspace.rules.interface import Kind, Rules, RulesError
from tcpao.userspace.selectors import Selector

PATIENCE = 60.0
ONE, OTHER = (Selector(None, 179, ip_network(f'10.0.0.{n}'), None) for n in (1, 2))


class LockedRules:
    """Behind a lock that another process holds."""

    kind = Kind.IPTABLES

    def __init__(self) -> None:
        self.lock = threading.Event()
        self.made: Set[Selector] = frozenset()
        self.changes: list[Set[Selector]] = []
        self.error: RulesError | None = None

    def change(self, wanted: Set[Selector]) -> None:
        assert self.lock.wait(PATIENCE)
        self.changes.append(wanted)
        if self.error is not None:
            raise self.error
        self.made = wanted

    def remove_all(self) -> None:
        self.made = frozenset()

    def complete(self) -> bool:
        return False

    def restore(self) -> None:
        assert self.lock.wait(PATIENCE)

    def close(self) -> None:
        """Nothing is open."""


class World:
    def __init__(self) -> None:
        self.wanted: set[Selector] = set()
        self.rules = LockedRules()
        self.changes = RuleChanges(lambda: cast(Rules, self.rules), lambda: self.wanted)
        self.said: list[object] = []
        self.settle_until(lambda: not self.changes.busy)

    def settle_until(self, condition: Callable[[], object]) -> None:
        while not condition():
            ready, _, _ = select.select(self.changes.helpers, [], [], PATIENCE)
            assert ready
            for helper in ready:
                helper.settle()

    def want(self, selector: Selector) -> None:
        self.wanted.add(selector)
        self.changes.adjust(self.said.append)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.rules.lock.set()
    made.settle_until(lambda: not made.changes.busy)
    made.changes.close()


def test_key_is_answered_when_its_rules_are_there(world: World) -> None:
    world.want(ONE)
    assert world.said == [], 'not before'
    world.rules.lock.set()
    world.settle_until(lambda: world.said)
    assert world.said == [None]
    assert world.rules.made == {ONE}


def test_command_is_answered_at_once_when_it_needs_no_rule(world: World) -> None:
    world.changes.adjust(world.said.append)
    assert world.said == [None]


def test_rules_are_not_compared_when_nothing_else_is_wanted() -> None:
    wanted = frozenset({ONE})
    rules = LockedRules()
    rules.lock.set()
    changes = RuleChanges(lambda: cast(Rules, rules), lambda: wanted)
    said: list[object] = []
    changes.adjust(said.append)
    while not said:
        select.select(changes.helpers, [], [], PATIENCE)
        changes.changer.settle()
    del rules.made
    changes.adjust(said.append)
    changes.close()
    assert said == [None, None]


def test_rules_are_made_again_when_they_were_removed(world: World) -> None:
    world.rules.lock.set()
    world.want(ONE)
    world.settle_until(lambda: world.said)
    world.changes.remove_all(world.said.append)
    world.settle_until(lambda: len(world.said) == 2)
    world.changes.adjust(world.said.append)
    world.settle_until(lambda: len(world.said) == 3)
    assert world.rules.made == {ONE}


def test_commands_go_into_the_next_change_when_one_is_running(world: World) -> None:
    world.want(ONE)
    world.want(OTHER)
    world.rules.lock.set()
    world.settle_until(lambda: len(world.said) == 2)
    assert world.rules.changes == [{ONE}, {ONE, OTHER}]


def test_every_key_is_refused_when_rules_cannot_be_made(world: World) -> None:
    world.rules.error = RulesError('somebody has the lock')
    world.want(ONE)
    world.rules.lock.set()
    world.settle_until(lambda: world.said)
    assert world.said == [world.rules.error]


def test_look_does_not_wait_behind_a_locked_change(world: World) -> None:
    world.want(ONE)
    found: list[object] = []
    world.changes.look(lambda complete, error: found.append(complete))
    world.settle_until(lambda: found)
    assert found == [False]
    assert world.said == []


def test_keys_are_known_to_be_unwanted_while_rules_are_remade(world: World) -> None:
    world.changes.restore(world.said.append)
    assert world.changes.restoring
    world.rules.lock.set()
    world.settle_until(lambda: world.said)
    assert world.said == [None]
    assert not world.changes.restoring
