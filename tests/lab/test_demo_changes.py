"""Changes that keep the demo's sessions busy while keys are replaced."""

from __future__ import annotations

from lab.demo.changes import RouteChanges
from lab.demo.places import CHANGING, PREFIXES
from lab.exabgp_cli import CommandLine


class Line(CommandLine):
    """Keeps what is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def ask(self, command: str, *, seconds: float = 0.0) -> list[str]:
        self.asked.append(command)
        return []


def test_sessions_get_a_change_each_time_and_nothing_piles_up() -> None:
    line = Line()
    changes = RouteChanges(line)
    for _ in range(4):
        changes.next()
    verbs = ('announce', 'withdraw') * 2
    assert line.asked == [f'{verb} route {route}' for verb in verbs for route in CHANGING]


def test_changed_routes_are_not_those_that_must_stay() -> None:
    assert not {route.split()[0] for route in CHANGING} & set(PREFIXES.values())
