"""Rules that a packet process which was killed has left, where no other takes their place."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tcpao.userspace.netlink.nfqueue import Queue
from tcpao.userspace.rules import iptables as rules_iptables
from tcpao.userspace.rules import nftables as rules_nftables
from tcpao.userspace.rules.existing_tables import may_have_tables
from tcpao.userspace.rules.interface import NAME, Kind, RulesError
from tcpao.userspace.rules.leftovers import Cleared, clear
from tests.tcpao.conftest import rule_kinds
from tests.tcpao.userspace.connections.test_inherited import IPTABLES, KINDS, killed
from tests.tcpao.userspace.forked import ForkedBackend
from tests.tcpao.userspace.netlink.test_queues import as_nobody
from tests.tcpao.userspace.process.test_process import can_connect, guarded, plain_listener, rules
from tests.tcpao.userspace.sites import Site, connect, protected, wired

native = pytest.mark.native
QUEUE = 20077
TABLE = f'{NAME}-queue-{QUEUE}'
# What nftables rules of ours do once no process listens; not every kernel has `queue`.
DROPPING = f"""
table inet {TABLE} {{
    chain in {{
        type filter hook input priority -160;
        tcp dport 179 drop
    }}
}}
"""


@pytest.fixture
def sites() -> Iterator[tuple[Site, Site]]:
    with wired() as both:
        yield both


def cleared(site: Site, kinds: Sequence[Kind] = tuple(Kind)) -> Cleared:
    with site.inside():
        return clear(kinds)


def left_by_one_that_was_killed(site: Site, kind: Kind) -> None:
    with protected(site, ForkedBackend((kind,))) as server:
        guarded(server)
        killed(server)
    assert rules(site)


@pytest.mark.parametrize('kind', KINDS)
def test_leftovers_are_removed_and_told_and_the_port_is_open(
    sites: tuple[Site, Site], kind: Kind
) -> None:
    left_by_one_that_was_killed(sites[1], kind)
    with plain_listener(sites[1], 179):
        assert not can_connect(sites[0], 179, timeout=0.2)
        done = cleared(sites[1])
        assert done.removed
        assert done.failure is None
        assert rules(sites[1]) == []
        assert can_connect(sites[0], 179)
    assert cleared(sites[1]) == Cleared()


@native
def test_leftover_table_is_removed_and_those_of_others_stay(sites: tuple[Site, Site]) -> None:
    sites[1].run('nft', '-f', '-', text=f'table ip mine {{ }}\ntable ip6 mine {{ }}\n{DROPPING}')
    with plain_listener(sites[1], 179):
        assert not can_connect(sites[0], 179, timeout=0.2)
        assert cleared(sites[1]) == Cleared((f'nftables: table inet {TABLE}',))
        assert can_connect(sites[0], 179)
    assert sites[1].run('nft', 'list', 'tables').splitlines() == ['table ip mine', 'table ip6 mine']


@native
def test_rules_of_a_living_process_stay(sites: tuple[Site, Site]) -> None:
    with (
        protected(sites[0], ForkedBackend(rule_kinds())) as client,
        protected(sites[1], ForkedBackend(rule_kinds())) as server,
    ):
        one = connect(client, server, guarded(server), 4)
        before = rules(sites[1])
        assert before
        assert cleared(sites[1]) == Cleared()
        assert rules(sites[1]) == before
        one.talk()
        one.close()


# --- where it can't -----------------------------------------------------------------------------


def refused(*_: object, **__: object) -> str:
    raise RulesError('it said no')


def do_by_hand(site: Site, failure: str | None) -> None:
    """Run the commands of the message, as they stand there."""
    assert failure is not None
    said, _, commands = failure.partition('; as root: ')
    assert said == 'it said no'
    environment = {**os.environ, 'PATH': f'{os.environ["PATH"]}:/usr/sbin:/sbin'}
    with site.inside():
        subprocess.run(['sh', '-ec', commands], check=True, env=environment)


@pytest.mark.parametrize('kind', IPTABLES)
def test_unremovable_rules_are_told_with_the_command(
    sites: tuple[Site, Site], kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = ('-t', 'mangle', '-A', 'INPUT', '-p', 'tcp', '--dport', '7777', '-j', 'ACCEPT')
    for command in (kind.value, kind.replace('iptables', 'ip6tables')):
        sites[1].run(command, *others)
    left_by_one_that_was_killed(sites[1], kind)
    monkeypatch.setattr(rules_iptables, 'restore', refused)
    done = cleared(sites[1], (kind,))
    assert done.removed == ()
    do_by_hand(sites[1], done.failure)
    assert rules(sites[1]) == []
    for command in (kind.value, kind.replace('iptables', 'ip6tables')):
        assert ' '.join(others[2:5]) in sites[1].run(command, '-t', 'mangle', '-S')
    assert cleared(sites[1]) == Cleared()


@native
def test_unremovable_table_is_told_with_the_command(
    sites: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    sites[1].run('nft', '-f', '-', text=DROPPING)
    monkeypatch.setattr(rules_nftables, 'commit', refused)
    do_by_hand(sites[1], cleared(sites[1]).failure)
    assert cleared(sites[1]) == Cleared()


@native
def test_other_ways_are_cleared_when_one_fails(
    sites: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    left_by_one_that_was_killed(sites[1], Kind.IPTABLES_LEGACY)
    sites[1].run('nft', '-f', '-', text=DROPPING)
    with monkeypatch.context() as patch:
        patch.setattr(rules_nftables, 'commit', refused)
        done = cleared(sites[1])
    assert any('iptables' in one for one in done.removed)
    assert done.failure == f'it said no; as root: nft delete table inet {TABLE}'


@native
def test_clearing_succeeds_when_another_was_quicker(
    sites: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(*_: object) -> None:
        sites[1].run('nft', 'delete', 'table', 'inet', TABLE)
        refused()

    sites[1].run('nft', '-f', '-', text=DROPPING)
    monkeypatch.setattr(rules_nftables, 'commit', too_late)
    assert cleared(sites[1]) == Cleared()


def unreadable(*_: object) -> str:
    """With CAP_NET_ADMIN and without root one may change rules, and not see the queues."""
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@native
def test_leftovers_go_when_the_list_of_queues_is_unreadable(
    sites: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    sites[1].run('nft', '-f', '-', text=DROPPING)
    with monkeypatch.context() as patch:
        patch.setattr(Path, 'read_text', unreadable)
        done = cleared(sites[1])
    assert done.failure is None
    assert len(done.removed) == 1
    assert TABLE not in sites[1].run('nft', 'list', 'tables')


@native
def test_rules_stay_when_their_listener_is_not_listed(
    sites: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    sites[1].run('nft', '-f', '-', text=DROPPING)
    with sites[1].inside():
        living = Queue(QUEUE)
    with closing(living), monkeypatch.context() as patch:
        patch.setattr(Path, 'read_text', unreadable)
        done = cleared(sites[1])
    assert done == Cleared()
    assert TABLE in sites[1].run('nft', 'list', 'tables')


# --- what it costs ------------------------------------------------------------------------------

LOOK = """
import sys
from tcpao.userspace.rules.leftovers import clear
print(clear())
print('pyroute2' in sys.modules)
"""


@native
def test_clearing_imports_nothing_big_when_nothing_is_left(sites: tuple[Site, Site]) -> None:
    sites[1].run('nft', 'add table inet mine')
    said = sites[1].run(sys.executable, '-c', LOOK)
    assert said.splitlines() == [str(Cleared()), 'False']


@native
def test_tables_are_found_by_prefix_among_any_others(
    own_namespace: None,
) -> None:
    def nft(text: str) -> None:
        subprocess.run(['nft', '-f', '-'], input=text, text=True, check=True)

    assert not may_have_tables(NAME)
    # More than one part of an answer holds.
    nft(''.join(f'table inet a-table-of-somebody-else-{number} {{ }}\n' for number in range(500)))
    assert not may_have_tables(NAME)
    nft(f'table inet not-{NAME} {{ }}')
    assert not may_have_tables(NAME)
    nft(f'table inet {NAME}-queue-1 {{ }}')
    assert may_have_tables(NAME)


# --- who may ------------------------------------------------------------------------------------


@native
def test_clearing_says_nothing_when_it_may_not_look(sites: tuple[Site, Site]) -> None:
    left_by_one_that_was_killed(sites[1], Kind.IPTABLES)
    sites[1].run('nft', '-f', '-', text=DROPPING)
    before = rules(sites[1])
    with sites[1].inside():
        assert as_nobody(clear) == str(Cleared())
    assert rules(sites[1]) == before
