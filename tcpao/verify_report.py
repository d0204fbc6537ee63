"""What the verification of a capture found: per connection and in all, as JSON and as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tcpao.capture import read_packets
from tcpao.known_keys import KnownKey
from tcpao.mkt import endpoint
from tcpao.segment import Flag
from tcpao.verify import Connection, Outcome, Verdict, Verifier

# Of one connection; the counts are complete, the list needn't be.
_LISTED_PROBLEMS = 20

_DIRECTION = {True: 'client to server', False: 'server to client'}


def verify_capture(path: str | Path, keys: Sequence[KnownKey]) -> Report:
    """Verify every TCP segment of a capture.

    Raises tcpao.capture.CaptureError if the capture can't be read, and
    tcpao.kdf.KmacUnavailableError if a key is for kmac256-128 and pycryptodome isn't there.
    """
    verifier = Verifier(keys)
    for packet in read_packets(path):
        verifier.feed(packet)
    return Report(verifier)


@dataclass(slots=True)
class _KeyUse:
    """One key in one connection."""

    key: KnownKey
    tcp_options: bool
    first: float
    last: float
    good: int = 0
    send_id: int | None = None
    recv_id: int | None = None


class Report:
    """The outcome; counts are of segments, and exclude each other."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._counts = [(connection, _counts(connection)) for connection in verifier.connections]
        total: Counter[Outcome] = Counter()
        for _, counts in self._counts:
            total.update(counts)
        self.good = total[Outcome.GOOD]
        self.bad = total[Outcome.BAD]
        self.unsigned = total[Outcome.UNSIGNED]
        self.malformed = len(verifier.malformed)
        """Packets with TCP that aren't whole segments; `unverifiable` includes them."""
        self.unverifiable = total[Outcome.UNVERIFIABLE] + self.malformed

    @property
    def connections(self) -> list[Connection]:
        """In the order in which they began."""
        return self._verifier.connections

    def verdicts(self) -> Iterator[Verdict]:
        """Every segment's verdict, connection by connection."""
        for connection in self.connections:
            yield from connection.verdicts

    def passed(self, *, require_all: bool = False) -> bool:
        """True if something was verified, and nothing was bad or unverifiable.

        Connections without any TCP-AO count against it only with `require_all`.
        """
        return (
            self.good > 0
            and not self.bad
            and not self.unverifiable
            and not (require_all and self.unsigned)
        )

    def to_json(self) -> dict[str, Any]:
        """For json.dumps; times are seconds since the epoch, ids as the opener sees them."""
        return {
            'connections': [
                _connection_json(connection, counts) for connection, counts in self._counts
            ],
            'good': self.good,
            'bad': self.bad,
            'unsigned': self.unsigned,
            'unverifiable': self.unverifiable,
            'malformed': self.malformed,
        }

    def to_text(self) -> str:
        """A table for people, with every connection's keys and the first of its problems."""
        head = ('client', 'server', 'algorithm', 'good', 'bad', 'unsigned', 'unverifiable')
        rows: list[tuple[str, ...]] = [head]
        for connection, counts in self._counts:
            uses = _key_uses(connection)
            rows.append(
                (
                    endpoint(*connection.client),
                    endpoint(*connection.server),
                    uses[0].key.algorithm.name if uses else '-',
                    *(str(counts[outcome]) for outcome in Outcome),
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines = []
        for number, row in enumerate(rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append('  '.join(cells).rstrip())
            if number:
                lines += _details(self._counts[number - 1][0])
        for packet, reason in self._verifier.malformed[:_LISTED_PROBLEMS]:
            lines.append(f'packet {packet.number}: {reason}')
        lines.append(
            f'{self.good} good, {self.bad} bad, {self.unsigned} unsigned, '
            f'{self.unverifiable} unverifiable'
        )
        return '\n'.join(lines)


def _effective(connection: Connection, verdict: Verdict) -> Outcome:
    """An unsigned segment inside a connection that has any TCP-AO is bad."""
    if verdict.outcome is Outcome.UNSIGNED and connection.has_ao:
        return Outcome.BAD
    return verdict.outcome


def _counts(connection: Connection) -> Counter[Outcome]:
    return Counter(_effective(connection, verdict) for verdict in connection.verdicts)


def _problems(connection: Connection) -> list[Verdict]:
    wrong = (Outcome.BAD, Outcome.UNVERIFIABLE)
    return [v for v in connection.verdicts if _effective(connection, v) in wrong]


def _key_uses(connection: Connection) -> list[_KeyUse]:
    """The keys that verified something, in order of their first use."""
    uses: dict[tuple[int, bool], _KeyUse] = {}
    for verdict in connection.verdicts:
        key, option, tcp_options = verdict.key, verdict.option, verdict.tcp_options
        if key is None or option is None or tcp_options is None:
            continue
        use = uses.setdefault(
            (id(key), tcp_options),
            _KeyUse(key, tcp_options, verdict.time, verdict.time, 0, key.send_id, key.recv_id),
        )
        use.good += 1
        use.last = verdict.time
        if verdict.from_client and use.send_id is None:
            use.send_id = option.key_id
        elif not verdict.from_client and use.recv_id is None:
            use.recv_id = option.key_id
    return list(uses.values())


def _key_changes(connection: Connection) -> list[tuple[Verdict, int]]:
    """Where a direction went over to another KeyID: the first segment under it, the id before."""
    changes = []
    last: dict[bool, int] = {}
    for verdict in connection.verdicts:
        if verdict.outcome is not Outcome.GOOD or verdict.option is None:
            continue
        before = last.get(verdict.from_client)
        if before is not None and before != verdict.option.key_id:
            changes.append((verdict, before))
        last[verdict.from_client] = verdict.option.key_id
    return changes


def _connection_json(connection: Connection, counts: Counter[Outcome]) -> dict[str, Any]:
    uses = _key_uses(connection)
    sessions = [use.key.session for use in uses if use.key.session is not None]
    return {
        'client': endpoint(*connection.client),
        'server': endpoint(*connection.server),
        'session': sessions[0] if sessions else None,
        'algorithm': uses[0].key.algorithm.name if uses else None,
        'first': connection.verdicts[0].time,
        'last': connection.verdicts[-1].time,
        **{outcome.value: counts[outcome] for outcome in Outcome},
        'retransmitted': sum(verdict.retransmission for verdict in connection.verdicts),
        'sne_wraps': {
            'client': connection.outward.follower.sne,
            'server': connection.inward.follower.sne,
        },
        'keys': [
            {
                'algorithm': use.key.algorithm.name,
                'tcp_options': use.tcp_options,
                'send_id': use.send_id,
                'recv_id': use.recv_id,
                'good': use.good,
                'first': use.first,
                'last': use.last,
            }
            for use in uses
        ],
        'key_changes': [
            {
                'time': verdict.time,
                'direction': _DIRECTION[verdict.from_client],
                'from': before,
                'to': verdict.option.key_id if verdict.option else None,
            }
            for verdict, before in _key_changes(connection)
        ],
        'problems': [
            {
                'packet': verdict.number,
                'time': verdict.time,
                'direction': _DIRECTION[verdict.from_client],
                'flags': _flags(verdict),
                'outcome': _effective(connection, verdict).value,
                'reason': verdict.reason,
            }
            for verdict in _problems(connection)[:_LISTED_PROBLEMS]
        ],
    }


def _details(connection: Connection) -> list[str]:
    lines = []
    for use in _key_uses(connection):
        covered = 'included' if use.tcp_options else 'excluded'
        lines.append(
            f'    key {use.key.algorithm.name} SendID {_id(use.send_id)} '
            f'RecvID {_id(use.recv_id)}, options {covered}: {use.good} good, '
            f'{_clock(use.first)} to {_clock(use.last)}'
        )
    for verdict, before in _key_changes(connection):
        assert verdict.option is not None
        lines.append(
            f'    {_clock(verdict.time)} {_DIRECTION[verdict.from_client]}: '
            f'KeyID {before} to {verdict.option.key_id}'
        )
    problems = _problems(connection)
    for verdict in problems[:_LISTED_PROBLEMS]:
        lines.append(
            f'    packet {verdict.number} {_clock(verdict.time)} '
            f'{_DIRECTION[verdict.from_client]} {_flags(verdict)}: '
            f'{_effective(connection, verdict).value}: {verdict.reason}'
        )
    if len(problems) > _LISTED_PROBLEMS:
        lines.append(f'    and {len(problems) - _LISTED_PROBLEMS} more like these')
    return lines


def _flags(verdict: Verdict) -> str:
    return ' '.join(flag.name or '' for flag in Flag if flag in verdict.segment.flags) or 'none'


def _id(number: int | None) -> str:
    return '?' if number is None else str(number)


def _clock(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime('%H:%M:%S.%f')[:-3]
