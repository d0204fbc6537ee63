"""The verdict on one captured segment, and the sums of a whole connection: counts and notes.

Nothing is judged here: that is `tcpao.verification.verify`. A tally doesn't grow with the capture,
so that captures of any length can be verified.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from tcpao.verification.known_keys import KnownKey
from tcpao.verification.segment import AoOption, Segment

LISTED_PROBLEMS = 20
"""Listed problems of one connection; the counts are complete, the list need not be."""
LISTED_CHANGES = 1000
"""Key changes of one connection that are kept."""


class Outcome(StrEnum):
    """The result for a segment."""

    GOOD = 'good'
    BAD = 'bad'
    UNSIGNED = 'unsigned'
    UNVERIFIABLE = 'unverifiable'


@dataclass(frozen=True, slots=True)
class Verdict:
    """One segment, and all data that was used to judge it."""

    number: int
    """Number of the packet in the capture, from 1."""
    time: float
    """Seconds since the epoch."""
    octets: bytes
    """The IP packet."""
    segment: Segment
    option: AoOption | None
    from_client: bool
    outcome: Outcome
    reason: str
    """The reason why the segment is not good; empty if it is."""
    retransmission: bool = False
    key: KnownKey | None = None
    tcp_options: bool | None = None
    source_isn: int | None = None
    destination_isn: int | None = None
    """0 for a SYN."""
    sne: int | None = None


@dataclass(slots=True)
class KeyUse:
    """One key in one connection; times are seconds since the epoch."""

    key: KnownKey
    tcp_options: bool
    first: float
    last: float
    send_id: int | None
    """Seen from the client; None while no segment has shown it."""
    recv_id: int | None
    good: int = 0


@dataclass(frozen=True, slots=True)
class KeyChange:
    """A change of one direction to another KeyID."""

    time: float
    from_client: bool
    before: int
    after: int


@dataclass(slots=True)
class Tally:
    """The sums over the segments of one connection."""

    first: float = 0.0
    last: float = 0.0
    retransmitted: int = 0
    changes: list[KeyChange] = field(default_factory=list)
    _counts: Counter[Outcome] = field(default_factory=Counter)
    _uses: dict[tuple[int, bool], KeyUse] = field(default_factory=dict)
    _last_id: dict[bool, int] = field(default_factory=dict)
    _wrong: list[Verdict] = field(default_factory=list)
    _unsigned: list[Verdict] = field(default_factory=list)

    def add(self, verdict: Verdict) -> None:
        """Add one segment, in the order of the capture."""
        if not self._counts:
            self.first = verdict.time
        self.last = verdict.time
        self._counts[verdict.outcome] += 1
        self.retransmitted += verdict.retransmission
        match verdict.outcome:
            case Outcome.GOOD:
                self._add_good(verdict)
            case Outcome.UNSIGNED:
                _keep(self._unsigned, verdict)
            case _:
                _keep(self._wrong, verdict)

    def _add_good(self, verdict: Verdict) -> None:
        key, option, tcp_options = verdict.key, verdict.option, verdict.tcp_options
        assert key is not None
        assert option is not None
        assert tcp_options is not None
        use = self._uses.setdefault(
            (id(key), tcp_options),
            KeyUse(key, tcp_options, verdict.time, verdict.time, key.send_id, key.recv_id),
        )
        use.good += 1
        use.last = verdict.time
        if verdict.from_client and use.send_id is None:
            use.send_id = option.key_id
        elif not verdict.from_client and use.recv_id is None:
            use.recv_id = option.key_id
        before = self._last_id.get(verdict.from_client)
        if before not in (None, option.key_id) and len(self.changes) < LISTED_CHANGES:
            assert before is not None
            change = KeyChange(verdict.time, verdict.from_client, before, option.key_id)
            self.changes.append(change)
        self._last_id[verdict.from_client] = option.key_id

    @property
    def uses(self) -> list[KeyUse]:
        """Return the keys that verified something, in order of their first use."""
        return list(self._uses.values())

    def counts(self, *, has_ao: bool) -> Counter[Outcome]:
        """Return segments by outcome; an unsigned one in a connection with any TCP-AO is bad."""
        counts = Counter(self._counts)
        if has_ao:
            counts[Outcome.BAD] += counts.pop(Outcome.UNSIGNED, 0)
        return counts

    def problems(self, *, has_ao: bool) -> list[Verdict]:
        """Return the first of the segments that are bad or unverifiable."""
        found = [*self._wrong, *(self._unsigned if has_ao else ())]
        return sorted(found, key=lambda verdict: verdict.number)[:LISTED_PROBLEMS]


def _keep(verdicts: list[Verdict], verdict: Verdict) -> None:
    if len(verdicts) < LISTED_PROBLEMS:
        verdicts.append(verdict)
