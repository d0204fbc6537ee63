"""What the packet process tells the daemon about connections that it keeps out.

A peer's SYN that is dropped just vanishes, for both ends: nothing else would tell an operator why.
Lines of JSON in a pipe that the process only writes to: what doesn't fit is lost, nothing waits.
No clock: `now` is an argument, in seconds.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, Final

from tcpao.mkt import SocketPair
from tcpao.refusal import DroppedSyn, Reason
from tcpao.userspace.connections.sockets_table import pair_of_flow
from tcpao.userspace.wire.options import MalformedError, find_ao
from tcpao.userspace.wire.packet import ACK, FLAGS, SYN, TCP_HEADER, flow_of, locate
from tcpao.userspace.wire.seal import Tally

AGAIN_AFTER: Final = 60.0
"""Seconds until the same is told of the same peer again."""
CONFIRMED_AFTER: Final = 2.0
"""Seconds that it must have gone on for: while a daemon starts, a SYN may come too early, or be
answered too early. Who has no answer sends it again after 1 s and 3 s."""
MOST: Final = 256
"""Peers and reasons told in that time: a SYN costs its sender nothing."""
_ALL: Final = 1024 * 1024
"""Octets; more than a pipe holds."""
_LONGEST: Final = 512
"""Octets of a line; below PIPE_BUF, so none is torn."""


class Refusals:
    """The writing end."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._counted = (0, 0, 0)
        self._seen: dict[tuple[object, Reason], float] = {}
        self._told: dict[tuple[object, Reason], float] = {}

    def dropped(self, packet: bytes, tally: Tally, now: float) -> None:
        """An arriving packet was dropped, and counted if it is a refusal."""
        counted = (tally.unsigned, tally.not_found, tally.bad)
        before, self._counted = self._counted, counted
        reasons = [one for one, was, is_ in zip(Reason, before, counted, strict=False) if is_ > was]
        if not reasons or self._descriptor is None:
            return
        refusal = refusal_of(packet, reasons[0])
        if refusal is None or not self._is_news(refusal, now):
            return
        self._write(refusal)

    def bypassed(self, pair: SocketPair) -> None:
        """Tell of a connection that was reset, for its octets had passed the process by."""
        self._write(DroppedSyn(Reason.BYPASSED, pair, None, is_answer=False))

    def _write(self, refusal: DroppedSyn) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                os.write(self._descriptor, encode(refusal))

    def _is_news(self, refusal: DroppedSyn, now: float) -> bool:
        key = (refusal.pair.remote, refusal.reason)
        if key in self._recent(self._told, now):
            return False
        first = self._recent(self._seen, now).setdefault(key, now)
        if now - first < CONFIRMED_AFTER or len(self._told) >= MOST:
            return False
        del self._seen[key]
        self._told[key] = now
        return True

    def _recent(self, times: dict[tuple[object, Reason], float], now: float) -> dict[Any, float]:
        """These without what is too old to count, or too much."""
        for key, at in list(times.items()):
            # The oldest come first.
            if now - at < AGAIN_AFTER and len(times) <= MOST:
                break
            del times[key]
        return times


def refusal_of(packet: bytes, reason: Reason) -> DroppedSyn | None:
    """None unless it is a SYN or an answer to one: what comes later has other tellers."""
    place = locate(packet)
    if place is None or not packet[place[0] + FLAGS] & SYN:
        return None
    start, data = place
    sender = pair_of_flow(flow_of(packet, start))
    if sender is None:
        return None
    try:
        at = find_ao(packet[start + TCP_HEADER : data])
    except MalformedError:
        return None
    key_id = packet[start + TCP_HEADER + at + 2] if at >= 0 else None
    is_answer = bool(packet[start + FLAGS] & ACK)
    return DroppedSyn(reason, sender.reversed(), key_id, is_answer)


def encode(refusal: DroppedSyn) -> bytes:
    """A line."""
    pair = refusal.pair
    fields = {
        'reason': refusal.reason,
        'pair': [str(pair.local), pair.local_port, str(pair.remote), pair.remote_port],
        'key_id': refusal.key_id,
        'is_answer': refusal.is_answer,
    }
    line = json.dumps(fields).encode() + b'\n'
    assert len(line) <= _LONGEST
    return line


def decode(line: bytes) -> DroppedSyn:
    """A line's. Raises ValueError or KeyError for what isn't one."""
    fields = json.loads(line)
    local, local_port, remote, remote_port = fields['pair']
    pair = SocketPair(ip_address(local), local_port, ip_address(remote), remote_port)
    return DroppedSyn(Reason(fields['reason']), pair, fields['key_id'], fields['is_answer'])


def read(descriptor: int) -> list[DroppedSyn]:
    """What has come; nothing once the process is gone. Lines are never torn."""
    try:
        octets = os.read(descriptor, _ALL)
    except OSError:
        return []
    return [decode(line) for line in octets.splitlines()]
