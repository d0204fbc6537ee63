"""More packets than the process judges: the kernel drops them, but for open connections."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tcpao.userspace.process import limit_count
from tcpao.userspace.rules import iptables, nftables
from tcpao.userspace.rules.interface import Kind
from tests.tcpao.userspace.connections.test_inherited import KINDS
from tests.tcpao.userspace.forked import ForkedBackend
from tests.tcpao.userspace.packets import ACK, SYN, packet
from tests.tcpao.userspace.process.test_process import guarded, inject, process_of
from tests.tcpao.userspace.sites import connect, protected, wait_until, wired

FEW = 50
"""A second: a machine of any speed sends more."""
FLOOD = 20 * FEW


@pytest.mark.parametrize('kind', KINDS)
def test_rules_limit_what_is_of_no_open_connection(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (iptables, nftables):
        monkeypatch.setattr(module, 'A_SECOND', FEW)
    monkeypatch.setattr(limit_count, '_MANY', FEW // 4)
    with (
        wired() as sites,
        protected(sites[0], ForkedBackend((kind,))) as client,
        protected(sites[1], ForkedBackend((kind,))) as server,
    ):
        one = connect(client, server, guarded(server), 4)
        process = process_of(server)
        stranger = replace(one.ours.pair, local_port=50000)
        inject(sites[0], *[packet(stranger, 1, 0, SYN)] * FLOOD)
        one.talk()
        wait_until(lambda: process.tally().limited > 0)
        judged = process.tally().unsigned
        assert judged + process.tally().limited <= FLOOD
        inject(sites[0], *[packet(one.ours.pair, 1, 1, ACK)] * FLOOD)
        one.talk()
        wait_until(lambda: process.tally().unsigned >= judged + FLOOD)
        # Such a SYN begins a connection, or would.
        inject(sites[0], *[packet(one.ours.pair, 1, 0, SYN)] * FLOOD)
        one.talk()
        wait_until(lambda: process.tally().unsigned > judged + FLOOD)
        assert process.tally().unsigned < judged + 2 * FLOOD
        one.close()
