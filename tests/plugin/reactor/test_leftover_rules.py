"""A daemon that starts no packet process takes away what a dead one has left: once, and whatever
comes of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from exabgp.logger import log

from plugin.reactor import lifecycle
from plugin.reactor.leftover_rules import clear
from tcpao.installer import Capabilities
from tcpao.mkt import ALGORITHMS
from tcpao.userspace.rules import leftovers as clearing
from tcpao.userspace.rules.leftovers import Cleared
from tests.plugin.doubles import Daemon
from tests.plugin.texts import neighbor

Start = Callable[..., Daemon]

PLAIN = neighbor(section='')


def test_rules_are_cleared_at_the_first_plain_load_only(daemon: Start) -> None:
    one = daemon(PLAIN)
    assert one.begin()
    assert one.gatekeeper.cleared_after == [[]]
    assert one.reload(PLAIN + neighbor(section='', peer='127.0.0.3'))
    assert one.reload(neighbor())
    assert one.reload(PLAIN)
    assert len(one.gatekeeper.cleared_after) == 1


def test_rules_are_cleared_when_a_kernel_load_is_in_force(daemon: Start) -> None:
    one = daemon(neighbor())
    assert one.begin()
    assert one.gatekeeper.cleared_after == [['start', 'configure']]
    assert one.reload(neighbor() + neighbor(peer='127.0.0.3'))
    assert len(one.gatekeeper.cleared_after) == 1


def test_rules_are_left_to_a_packet_process(daemon: Start) -> None:
    one = daemon(neighbor())
    one.gatekeeper.capabilities = Capabilities('userspace', frozenset(ALGORITHMS), True, True)
    assert one.begin()
    assert one.reload(PLAIN)
    assert one.gatekeeper.cleared_after == []


def test_rules_stay_when_a_load_is_refused(daemon: Start) -> None:
    one = daemon(neighbor())
    one.gatekeeper.refuse_policies = 'no room for another deny key'
    assert not one.begin()
    assert one.gatekeeper.cleared_after == []


class Said:
    """The lines that were logged."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.info: list[str] = []
        self.critical: list[str] = []
        for level in ('info', 'critical'):
            kept: list[str] = getattr(self, level)
            monkeypatch.setattr(log, level, lambda text, _, kept=kept: kept.append(text()))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    return Said(monkeypatch)


def found(monkeypatch: pytest.MonkeyPatch, cleared: Cleared) -> None:
    monkeypatch.setattr(clearing, 'clear', lambda: cleared)


def test_clearing_tells_nothing_when_nothing_was_left(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    found(monkeypatch, Cleared())
    clear()
    assert said.info == said.critical == []


def test_clearing_tells_what_was_removed(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, Cleared(removed=('3 rules of iptables to queue 20000',)))
    clear()
    assert said.info == [
        'TCP-AO backend: left behind by a process that was killed, and removed: '
        '3 rules of iptables to queue 20000'
    ]
    assert said.critical == []


def test_clearing_tells_what_stays_at_the_highest_level(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    found(monkeypatch, Cleared(failure='iptables-restore said no; as root: do it'))
    clear()
    (text,) = said.critical
    assert text.endswith('iptables-restore said no; as root: do it')
    assert 'left behind by a process that was killed, and not removed' in text


def test_our_defect_stops_no_daemon_without_protection(
    daemon: Start, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> Cleared:
        raise ImportError('no pyroute2')

    one = daemon(PLAIN)
    monkeypatch.setattr(clearing, 'clear', fails)
    monkeypatch.setattr(lifecycle, 'clearer', clear)
    assert one.begin()
    (text,) = said.critical
    assert 'no pyroute2' in text
    assert 'exabgp-gatekeeper' in text
