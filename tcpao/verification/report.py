"""The results of the verification of a capture, per connection and in all, as JSON and as a
table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tcpao.mkt import endpoint
from tcpao.verification.capture import CutOffError, read_packets
from tcpao.verification.connection import Connection, GivenIsns
from tcpao.verification.diagnosis import Diagnosis
from tcpao.verification.known_keys import KnownKey
from tcpao.verification.segment import Flag
from tcpao.verification.verdict import KeyUse, Outcome, Verdict
from tcpao.verification.verify import Verifier

_DIRECTION = {True: 'client to server', False: 'server to client'}

_LISTED_CHANGES = 50


def verify_capture(
    path: str | Path,
    keys: Sequence[KnownKey],
    isns: Sequence[GivenIsns] = (),
    *,
    keep: bool = True,
) -> Report:
    """Verify every TCP segment of a capture; `keep` all verdicts, so that memory grows with it.

    If the last packet of the capture is cut, only the whole ones are verified. Raises
    tcpao.verification.capture.CaptureError if the capture can't be read, and
    tcpao.kdf.KmacUnavailableError if a key is for kmac256-128 and pycryptodome is missing.
    """
    verifier = Verifier(keys, isns, keep=keep)
    cut_off = False
    try:
        for packet in read_packets(path):
            verifier.feed(packet)
    except CutOffError:
        # A tcpdump that was killed.
        cut_off = True
    return Report(verifier, cut_off=cut_off)


class Report:
    """The results; counts are of segments, and exclude each other."""

    def __init__(self, verifier: Verifier, *, cut_off: bool = False) -> None:
        self._verifier = verifier
        self.cut_off = cut_off
        """True if the capture's last packet is cut; it isn't counted anywhere."""
        self._diagnosis = Diagnosis(verifier.keys)
        self._counts = [(c, c.tally.counts(has_ao=c.has_ao)) for c in verifier.connections]
        total: Counter[Outcome] = Counter()
        for _, counts in self._counts:
            total.update(counts)
        self.good = total[Outcome.GOOD]
        self.bad = total[Outcome.BAD]
        self.unsigned = total[Outcome.UNSIGNED]
        self.malformed = verifier.malformed_count
        """Packets with TCP that aren't whole segments; `unverifiable` includes them."""
        self.unverifiable = total[Outcome.UNVERIFIABLE] + self.malformed

    @property
    def connections(self) -> list[Connection]:
        """Return the connections in the order in which they began."""
        return self._verifier.connections

    def verdicts(self) -> Iterator[Verdict]:
        """Yield every segment's verdict, connection by connection, if the verifier kept them."""
        for connection in self.connections:
            yield from connection.verdicts

    def passed(self, *, require_all: bool = False) -> bool:
        """Return True if something was verified, and nothing was bad or unverifiable.

        Connections without any TCP-AO count against it only with `require_all`.
        """
        return (
            self.good > 0
            and not self.bad
            and not self.unverifiable
            and not (require_all and self.unsigned)
        )

    def to_json(self) -> dict[str, Any]:
        """Return a value for json.dumps; times are seconds since the epoch, ids seen from the
        opener.
        """
        return {
            'connections': [
                self._connection_json(connection, counts) for connection, counts in self._counts
            ],
            'good': self.good,
            'bad': self.bad,
            'unsigned': self.unsigned,
            'unverifiable': self.unverifiable,
            'malformed': self.malformed,
            'cut_off': self.cut_off,
        }

    def to_text(self) -> str:
        """Return a table for people, with every connection's keys and the first of its problems."""
        rows: list[tuple[str, ...]] = [('client', 'server', 'algorithm', *Outcome, 'retransmitted')]
        for connection, counts in self._counts:
            uses = connection.tally.uses
            rows.append(
                (
                    endpoint(*connection.client),
                    endpoint(*connection.server),
                    uses[0].key.algorithm.name if uses else '-',
                    *(str(counts[outcome]) for outcome in Outcome),
                    str(connection.tally.retransmitted),
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = []
        for number, row in enumerate(rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append('  '.join(cells).rstrip())
            if number:
                lines += self._details(*self._counts[number - 1])
        lines += [f'packet {number}: {reason}' for number, reason in self._verifier.malformed]
        if self.malformed > len(self._verifier.malformed):
            lines.append(f'and {self.malformed - len(self._verifier.malformed)} more like these')
        lines.append(
            f'{self.good} good, {self.bad} bad, {self.unsigned} unsigned, '
            f'{self.unverifiable} unverifiable'
        )
        return '\n'.join(lines)

    def _connection_json(self, connection: Connection, counts: Counter[Outcome]) -> dict[str, Any]:
        tally = connection.tally
        sessions = [use.key.session for use in tally.uses if use.key.session is not None]
        return {
            'client': endpoint(*connection.client),
            'server': endpoint(*connection.server),
            'session': sessions[0] if sessions else None,
            'algorithm': tally.uses[0].key.algorithm.name if tally.uses else None,
            'first': tally.first,
            'last': tally.last,
            **{outcome.value: counts[outcome] for outcome in Outcome},
            'retransmitted': tally.retransmitted,
            'sne_wraps': _wraps(connection),
            'keys': [_key_json(use) for use in tally.uses],
            'key_changes': [
                {
                    'time': change.time,
                    'direction': _DIRECTION[change.from_client],
                    'from': change.before,
                    'to': change.after,
                }
                for change in tally.changes
            ],
            'problems': [
                {
                    'packet': verdict.number,
                    'time': verdict.time,
                    'direction': _DIRECTION[verdict.from_client],
                    'flags': _flags(verdict),
                    'outcome': _effective(connection, verdict).value,
                    'reason': verdict.reason,
                    'remedy': self._diagnosis.remedy(connection, verdict),
                }
                for verdict in tally.problems(has_ao=connection.has_ao)
            ],
        }

    def _details(self, connection: Connection, counts: Counter[Outcome]) -> list[str]:
        tally = connection.tally
        lines = []
        for use in tally.uses:
            covered = 'included' if use.tcp_options else 'excluded'
            lines.append(
                f'    key {use.key.algorithm.name} SendID {_id(use.send_id)} '
                f'RecvID {_id(use.recv_id)}, options {covered}: {use.good} good, '
                f'{_clock(use.first)} to {_clock(use.last)}'
            )
        for change in tally.changes[:_LISTED_CHANGES]:
            lines.append(
                f'    {_clock(change.time)} {_DIRECTION[change.from_client]}: '
                f'KeyID {change.before} to {change.after}'
            )
        if len(tally.changes) > _LISTED_CHANGES:
            lines.append(f'    and {len(tally.changes) - _LISTED_CHANGES} more changes of key')
        wraps = _wraps(connection)
        if any(wraps.values()):
            lines.append(
                f'    sequence numbers wrapped: {wraps["client"]} times client to server, '
                f'{wraps["server"]} times server to client'
            )
        problems = tally.problems(has_ao=connection.has_ao)
        remedies = [self._diagnosis.remedy(connection, verdict) for verdict in problems]
        for verdict, remedy in zip(problems, remedies, strict=True):
            lines.append(
                f'    packet {verdict.number} {_clock(verdict.time)} '
                f'{_DIRECTION[verdict.from_client]} {_flags(verdict)}: '
                f'{_effective(connection, verdict).value}: {verdict.reason}'
                + (f'; {remedy}' if remedy else '')
            )
        more = counts[Outcome.BAD] + counts[Outcome.UNVERIFIABLE] - len(problems)
        if more:
            lines.append(f'    and {more} more like these')
        if counts[Outcome.BAD] and connection.has_ao and not tally.uses and not any(remedies):
            lines.append(
                '    no key that is given fits in any way: the master key is another one, or a NAT '
                'changed the addresses'
            )
        return lines


def _effective(connection: Connection, verdict: Verdict) -> Outcome:
    """Return the outcome; an unsigned segment in a connection that has any TCP-AO is bad."""
    if verdict.outcome is Outcome.UNSIGNED and connection.has_ao:
        return Outcome.BAD
    return verdict.outcome


def _key_json(use: KeyUse) -> dict[str, Any]:
    return {
        'algorithm': use.key.algorithm.name,
        'tcp_options': use.tcp_options,
        'send_id': use.send_id,
        'recv_id': use.recv_id,
        'good': use.good,
        'first': use.first,
        'last': use.last,
    }


def _wraps(connection: Connection) -> dict[str, int]:
    return {'client': connection.outward.follower.sne, 'server': connection.inward.follower.sne}


def _flags(verdict: Verdict) -> str:
    return ' '.join(flag.name or '' for flag in Flag if flag in verdict.segment.flags) or 'none'


def _id(number: int | None) -> str:
    return '?' if number is None else str(number)


def _clock(time: float) -> str:
    try:
        return datetime.fromtimestamp(time, UTC).strftime('%Y-%m-%d %H:%M:%S.%f')[:-3]
    except (OverflowError, ValueError, OSError):
        # A damaged or manipulated file.
        return f'{time:g} s'
