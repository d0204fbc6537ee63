"""The SYNs of the two sessions, as events, while the capture of the wire still grows.

Separate from `evidence`, which takes long to import: the demo begins without that module.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gatekeeper.reporting.events import EventName, OperatorEvent
from tcpao.mkt import endpoint
from tcpao.verification.capture import CaptureError, Packet, read_packets
from tcpao.verification.segment import Segment, parse_ip


class SynFollower:
    """The SYNs of a capture that is still growing, each once, as events."""

    def __init__(self, path: Path, sessions: dict[int, str]) -> None:
        """Take `sessions`, the session's name for each of the opener's ports."""
        self._path = path
        self._sessions = sessions
        self._seen: set[tuple[int, int]] = set()

    def news(self) -> Iterator[OperatorEvent]:
        """Yield the SYNs since the last call."""
        if len(self._seen) < len(self._sessions):
            try:
                yield from self._read()
            except CaptureError:
                return  # not there yet, or its last packet isn't whole yet

    def _read(self) -> Iterator[OperatorEvent]:
        for packet in read_packets(self._path):
            segment = parse_ip(packet.octets)
            if segment is None or not segment.is_opening:
                continue
            known = (segment.source_port, segment.sequence)
            if known not in self._seen:
                self._seen.add(known)
                yield _syn(packet, segment, self._sessions.get(segment.source_port))


def _syn(packet: Packet, segment: Segment, session: str | None) -> OperatorEvent:
    option = segment.ao_option()
    source = endpoint(segment.source, segment.source_port)
    target = endpoint(segment.destination, segment.destination_port)
    details: dict[str, str | int | float | bool | None] = {
        'captured': True,
        'pair': f'{source} -> {target}',
        'key_id': option.key_id if option else None,
        'rnext_key_id': option.rnext_key_id if option else None,
        'mac': option.mac.hex() if option else None,
    }
    return OperatorEvent(packet.time, 'r1', session, EventName.SYN, details)
