"""One connection of a capture: its ISNs, its two directions, and the SNE of each segment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from keymaterial import Secret
from tcpao.kdf import context, derive_traffic_key
from tcpao.sne import SneFollower
from tcpao.verification.capture import Packet
from tcpao.verification.known_keys import Endpoint, KnownKey
from tcpao.verification.mac import is_good
from tcpao.verification.segment import AoOption, MalformedSegmentError, Segment
from tcpao.verification.verdict import Outcome, Tally, Verdict

# Number of connections of one socket pair that a late segment may belong to.
REMEMBERED = 4


SPACE = 1 << 32


# A connection that is captured from its middle on may have wrapped this often, 4 GiB each time; its
# SNE is searched for in this many segments.
_MOST_WRAPS = 64


_MOST_SEARCHES = 64


# Forged ISNs must not fill the memory: the most connections with traffic keys.
_MOST_ISNS = 16


NO_ISNS = "the capture doesn't hold the SYN and SYN-ACK"


"""The reason for which a segment is unverifiable and ISNs would help."""


@dataclass(frozen=True, slots=True)
class GivenIsns:
    """The ISNs of a connection whose SYNs are not in the capture."""

    client: Endpoint
    server: Endpoint
    client_isn: int
    server_isn: int


@dataclass(slots=True)
class Direction:
    """One direction of a connection."""

    isn: int | None = None
    follower: SneFollower = field(default_factory=lambda: SneFollower(0))
    searches: int = 0
    """Number of segments in which the SNE may still be searched for: the ISN was given, and it is
    unknown how often the sequence numbers have wrapped since."""

    def begin(self, isn: int) -> None:
        """Set the ISN, when it becomes known, or better known."""
        if isn != self.isn:
            self.isn = isn
            self.follower = SneFollower(isn)
            self.searches = 0

    def begin_before(self, isn: int) -> None:
        """Set a given ISN, from before the capture's first segment."""
        self.begin(isn)
        self.searches = _MOST_SEARCHES

    def advance(self, verdict: Verdict) -> None:
        """Note a good segment."""
        segment = verdict.segment
        if self.searches and verdict.sne is not None:
            self.searches = 0
            self.follower = SneFollower(verdict.sne * SPACE + segment.sequence)
        self.follower.advance(segment.sequence, segment.length)


@dataclass(slots=True, eq=False)
class Connection:
    """One connection; the client sent the SYN, or the first segment seen."""

    client: Endpoint
    server: Endpoint
    keys: list[KnownKey]
    """Keys that may protect this connection, the one that fitted last first."""
    outward: Direction = field(default_factory=Direction)
    """The direction from the client."""
    inward: Direction = field(default_factory=Direction)
    verdicts: list[Verdict] = field(default_factory=list)
    """All verdicts, if the verifier keeps them."""
    tally: Tally = field(default_factory=Tally)
    has_ao: bool = False
    is_signed: bool = False
    """True if TCP-AO is in more than a SYN, which anyone may have forged."""
    has_ended: bool = False
    """True after a RST, or a FIN each way, with a good MAC."""
    _finished: set[bool] = field(default_factory=set)
    _traffic_keys: dict[tuple[int, bool, int, int], Secret] = field(default_factory=dict)
    _covered: dict[int, bool] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Return True if the capture holds its SYN and its SYN-ACK."""
        return self.outward.isn is not None and self.inward.isn is not None

    @property
    def is_up(self) -> bool:
        return self.is_open and not self.has_ended

    def judge(self, packet: Packet, segment: Segment) -> Verdict:
        """Return the verdict on this segment; changes nothing but caches."""
        from_client = (segment.source, segment.source_port) == self.client
        option, broken = None, ''
        try:
            option = segment.ao_option()
        except MalformedSegmentError as error:
            broken = str(error)
        isns = None if option is None else self._isns(segment, from_client=from_client)
        # One object for each segment, completed before it is made: to change it costs more.
        source_isn, destination_isn = isns or (None, None)
        verdict = Verdict(
            number=packet.number,
            time=packet.time,
            octets=packet.octets,
            segment=segment,
            option=option,
            from_client=from_client,
            outcome=Outcome.BAD if broken else Outcome.UNSIGNED,
            reason=broken or 'without TCP-AO',
            source_isn=source_isn,
            destination_isn=destination_isn,
            sne=None if isns is None else self._sne(segment, from_client=from_client),
        )
        if option is None:
            return verdict
        if isns is None:
            return replace(
                verdict,
                outcome=Outcome.UNVERIFIABLE,
                reason=NO_ISNS,
            )
        return self._judge_signed(verdict, option)

    def _sne(self, segment: Segment, *, from_client: bool) -> int:
        """Return the SNE; 0 for a SYN or SYN-ACK, which carries the ISN itself."""
        if segment.is_opening or segment.is_syn_ack:
            return 0
        here, _ = self._directions(from_client=from_client)
        return here.follower.sne_of(segment.sequence)

    def _isns(self, segment: Segment, *, from_client: bool) -> tuple[int, int] | None:
        """Return source and destination ISN for the KDF (RFC 5925 5.2)."""
        if segment.is_opening:
            return segment.sequence, 0
        here, there = self._directions(from_client=from_client)
        source = segment.sequence if segment.is_syn_ack else here.isn
        if source is None or there.isn is None:
            return None
        return source, there.isn

    def _directions(self, *, from_client: bool) -> tuple[Direction, Direction]:
        return (self.outward, self.inward) if from_client else (self.inward, self.outward)

    def _judge_signed(self, verdict: Verdict, option: AoOption) -> Verdict:
        segment, from_client = verdict.segment, verdict.from_client
        here, _ = self._directions(from_client=from_client)
        candidates = [
            key for key in self.keys if key.may_sign(from_client=from_client, key_id=option.key_id)
        ]
        searching = here.searches > 0 and not (segment.is_opening or segment.is_syn_ack)
        for attempt in _every_sne(verdict) if searching else (verdict,):
            for key in candidates:
                for tcp_options in self._coverage(key):
                    if self._verifies(attempt, option, key, tcp_options=tcp_options):
                        known = here.isn is not None and not searching
                        return replace(
                            attempt,
                            outcome=Outcome.GOOD,
                            reason='',
                            retransmission=known
                            and not here.follower.is_new(segment.sequence, segment.length),
                            key=key,
                            tcp_options=tcp_options,
                        )
        if candidates:
            return replace(
                verdict,
                outcome=Outcome.BAD,
                reason=f'the MAC fails under KeyID {option.key_id}',
            )
        return replace(
            verdict,
            outcome=Outcome.UNVERIFIABLE,
            reason=f'no key is given for KeyID {option.key_id}',
        )

    def _coverage(self, key: KnownKey) -> tuple[bool, ...]:
        """Return whether options are in the MAC, the likelier value first: without options both
        fit.
        """
        if key.tcp_options is not None:
            return (key.tcp_options,)
        likely = self._covered.get(id(key), True)
        return likely, not likely

    def _verifies(
        self, verdict: Verdict, option: AoOption, key: KnownKey, *, tcp_options: bool
    ) -> bool:
        assert verdict.source_isn is not None
        assert verdict.destination_isn is not None
        assert verdict.sne is not None
        segment = verdict.segment
        place = (id(key), verdict.from_client, verdict.source_isn, verdict.destination_isn)
        traffic_key = self._traffic_keys.get(place)
        if traffic_key is None:
            if len(self._traffic_keys) >= _MOST_ISNS * len(self.keys):
                self._traffic_keys.clear()
            traffic_key = derive_traffic_key(
                key.algorithm,
                key.master_key,
                context(
                    segment.source,
                    segment.destination,
                    segment.source_port,
                    segment.destination_port,
                    verdict.source_isn,
                    verdict.destination_isn,
                ),
            )
            self._traffic_keys[place] = traffic_key
        return is_good(
            segment, option, key.algorithm, traffic_key, verdict.sne, tcp_options=tcp_options
        )

    def take(self, verdict: Verdict, *, keep: bool) -> None:
        """Count a segment of this connection, and follow its sequence numbers if it is good."""
        if keep:
            self.verdicts.append(verdict)
        self.tally.add(verdict)
        self.has_ao = self.has_ao or verdict.option is not None
        segment = verdict.segment
        here, _ = self._directions(from_client=verdict.from_client)
        good = verdict.outcome is Outcome.GOOD
        if verdict.option is not None and (good or not segment.is_opening):
            self.is_signed = True
        if good and segment.has_fin:
            self._finished.add(verdict.from_client)
        if good and (segment.has_rst or len(self._finished) > 1):
            self.has_ended = True
        self._learn_isns(verdict)
        if verdict.key is not None and verdict.tcp_options is not None:
            self._covered[id(verdict.key)] = verdict.tcp_options
            here.advance(verdict)
            if self.keys[0] is not verdict.key:
                self.keys = [
                    verdict.key,
                    *(key for key in self.keys if key is not verdict.key),
                ]
        elif here.searches and verdict.outcome is Outcome.BAD:
            here.searches -= 1

    def _learn_isns(self, verdict: Verdict) -> None:
        """Learn ISNs from the SYN and SYN-ACK of this connection, not from forged ones inside
        it.
        """
        segment = verdict.segment
        here, there = self._directions(from_client=verdict.from_client)
        is_answer = segment.is_syn_ack and there.isn == (segment.acknowledgment - 1) % SPACE
        if not (segment.is_opening or segment.is_syn_ack) or (
            self.is_signed and verdict.option is None and not is_answer
        ):
            return
        # An ISN without a good MAC is replaced by one with a good MAC.
        if verdict.outcome is Outcome.GOOD or here.isn is None:
            here.begin(segment.sequence)
        if segment.is_syn_ack and there.isn is None:
            # The capture lacks the SYN; its ISN is what the SYN-ACK acknowledges.
            there.begin((segment.acknowledgment - 1) % SPACE)


def _every_sne(verdict: Verdict) -> Iterator[Verdict]:
    """Yield verdicts for the same segment after each number of wraps."""
    return (replace(verdict, sne=sne) for sne in range(_MOST_WRAPS))
