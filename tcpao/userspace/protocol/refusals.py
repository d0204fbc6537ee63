"""Reports of the packet process to the daemon about refused connections.

A dropped SYN is invisible to both ends: nothing else would tell an operator the reason. The reports
are lines of JSON in a pipe that the process only writes to: lines that do not fit are lost, nothing
waits. No clock: `now` is an argument, in seconds.
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
"""Seconds until the same refusal of the same peer is reported again."""
CONFIRMED_AFTER: Final = 2.0
"""Seconds that a refusal must last until it is reported: while a daemon starts, a SYN may come too
early, or be answered too early. A sender without an answer repeats its SYN after 1 s and 3 s."""
MOST: Final = 256
"""Peers and reasons reported in that time: a SYN costs its sender nothing."""
_ALL: Final = 1024 * 1024
"""Octets of one read; more than a pipe holds."""
_LONGEST: Final = 512
"""Octets of a line; below PIPE_BUF, so that each write is atomic."""


class Refusals:
    """The writing end of the pipe."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._counted = (0, 0, 0)
        self._seen: dict[tuple[object, Reason], float] = {}
        self._told: dict[tuple[object, Reason], float] = {}

    def dropped(self, packet: bytes, tally: Tally, now: float) -> None:
        """Report an arriving packet that was dropped, if it was counted as a refusal."""
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
        """Report a connection that was reset because its octets had bypassed the process."""
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
        """Return the entries without those that are too old, or too many."""
        for key, at in list(times.items()):
            # The oldest come first.
            if now - at < AGAIN_AFTER and len(times) <= MOST:
                break
            del times[key]
        return times


def refusal_of(packet: bytes, reason: Reason) -> DroppedSyn | None:
    """Return the refused SYN or SYN-ACK; None for later segments, which are reported elsewhere."""
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
    """Return a refusal as a line."""
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
    """Return the refusal of a line. Raises ValueError or KeyError for a malformed line."""
    fields = json.loads(line)
    local, local_port, remote, remote_port = fields['pair']
    pair = SocketPair(ip_address(local), local_port, ip_address(remote), remote_port)
    return DroppedSyn(Reason(fields['reason']), pair, fields['key_id'], fields['is_answer'])


def read(descriptor: int) -> list[DroppedSyn]:
    """Return the refusals that wait; none once the process is gone. Lines are never partial."""
    try:
        octets = os.read(descriptor, _ALL)
    except OSError:
        return []
    return [decode(line) for line in octets.splitlines()]
