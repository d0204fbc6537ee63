"""Packets of both queues, and their verdicts."""

from __future__ import annotations

import time
import traceback
from typing import Final

from tcpao.userspace.connections.packet_path import PacketPath
from tcpao.userspace.netlink.nfqueue import Hook, Queued, verdict
from tcpao.userspace.process.limit_count import LimitCount
from tcpao.userspace.process.queues import Lane, Queues
from tcpao.userspace.process.reports import say
from tcpao.userspace.protocol.counts import SharedCounts
from tcpao.userspace.protocol.refusals import Refusals

# Octets of verdicts that are sent together: few enough that TCP does not wait for them.
_BATCH: Final = 64 * 1024
# Packets to judge before the channel is read again.
_TURN: Final = 2048


class Judge:
    """The packet path between the queues and back."""

    def __init__(
        self,
        queues: Queues,
        core: PacketPath,
        refusals: Refusals,
        counts: SharedCounts | None,
    ) -> None:
        """Take `refusals`, which are told to the daemon, and `counts`, which it reads."""
        self.orphaned = False
        """True when the daemon is gone: nothing goes in, and only RSTs go out."""
        self.limit: Final = LimitCount()
        self._queues = queues
        self._core = core
        self._refusals = refusals
        self._counts = counts
        self._octets = 0

    def work(self) -> None:
        """Judge the packets that wait, up to a bound."""
        common = 0
        for _ in range(_TURN):
            lane, queued = self._queues.receive()
            if not queued:
                break
            if lane is self._queues.common:
                common += len(queued)
            for each in queued:
                self._judge(lane, each)
            if self._octets >= _BATCH:
                self._hand_over()
        self._hand_over()
        if common:
            self.limit.passed(common, time.monotonic())

    def note_limited(self, dropped: int) -> None:
        """Note how many packets the rules have dropped beyond the limit, as they count."""
        self.limit.read(dropped)
        self._core.tally.limited = self.limit.total
        self._write_counts()

    def _judge(self, lane: Lane, queued: Queued) -> None:
        core, packet = self._core, queued.packet
        interface, partial = queued.interface, queued.partial
        try:
            if queued.hook == Hook.LOCAL_IN:
                passed = None
                if not self.orphaned:
                    passed = core.incoming(packet, partial=partial, interface=interface)
                if passed is None:
                    self._refusals.dropped(packet, core.tally, time.monotonic())
            elif self.orphaned:
                passed = core.last_words(packet, partial=partial)
            else:
                passed = core.outgoing(packet, partial=partial, interface=interface)
        except Exception:
            # A bug of ours. Drop the packet and go on, so that a crafted packet cannot stop the
            # process.
            say(traceback.format_exc())
            passed = None
        decision = verdict(lane.queue.number, queued.identity, passed, passed is not packet)
        lane.verdicts.append(decision)
        self._octets += len(decision)

    def _hand_over(self) -> None:
        if self._octets:
            # Before anyone can know the fate of the packets.
            self._write_counts()
            self._queues.send()
            self._octets = 0

    def _write_counts(self) -> None:
        if self._counts is not None:
            self._counts.write(self._core.tally)
