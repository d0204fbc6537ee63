"""Verifying the TCP-AO MAC of every segment of a capture, given master keys.

Follows each connection from its SYN: ISNs, both directions' SNE, which key signs. Several
connections in succession on one socket pair are told apart by the opener's ISN. The capture is
read by `tcpao.capture`, what came out is put into words by `tcpao.verify_report`.

A segment is one of four things. *Good*: a given key verifies it. *Bad*: it should verify and
doesn't, or it is unsigned in a connection that has any TCP-AO. *Unsigned*: in a connection without
any TCP-AO. *Unverifiable*: nothing can be said, for lack of its key or of an ISN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from keymaterial import Secret
from tcpao.capture import Packet
from tcpao.kdf import context, derive_traffic_key
from tcpao.known_keys import Endpoint, KnownKey
from tcpao.mac import is_good
from tcpao.segment import AoOption, MalformedSegmentError, Segment, parse_ip
from tcpao.sne import SneFollower

# How many connections of one socket pair a late segment may belong to.
_REMEMBERED = 4


class Outcome(StrEnum):
    """What is known of a segment."""

    GOOD = 'good'
    BAD = 'bad'
    UNSIGNED = 'unsigned'
    UNVERIFIABLE = 'unverifiable'


@dataclass(frozen=True, slots=True)
class Verdict:
    """One segment, and all that was used to judge it."""

    number: int
    """Of the packet in the capture, from 1."""
    time: float
    """Seconds since the epoch."""
    octets: bytes
    """The IP packet."""
    segment: Segment
    option: AoOption | None
    from_client: bool
    outcome: Outcome
    reason: str
    """Why it isn't good; empty if it is."""
    retransmission: bool = False
    key: KnownKey | None = None
    tcp_options: bool | None = None
    source_isn: int | None = None
    destination_isn: int | None = None
    """0 for a SYN."""
    sne: int | None = None


@dataclass(slots=True)
class Direction:
    """One direction of a connection."""

    isn: int | None = None
    follower: SneFollower = field(default_factory=lambda: SneFollower(0))

    def begin(self, isn: int) -> None:
        """The ISN is known, or known better."""
        if isn != self.isn:
            self.isn = isn
            self.follower = SneFollower(isn)


@dataclass(slots=True, eq=False)
class Connection:
    """One connection; the client sent the SYN, or the first segment seen."""

    client: Endpoint
    server: Endpoint
    keys: list[KnownKey]
    """Those that may protect it, the one that fitted last first."""
    outward: Direction = field(default_factory=Direction)
    """From the client."""
    inward: Direction = field(default_factory=Direction)
    verdicts: list[Verdict] = field(default_factory=list)
    has_ao: bool = False
    _traffic_keys: dict[tuple[int, bool, int, int], Secret] = field(default_factory=dict)
    _covered: dict[int, bool] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """True if the capture holds its SYN and its SYN-ACK."""
        return self.outward.isn is not None and self.inward.isn is not None

    def judge(self, packet: Packet, segment: Segment) -> Verdict:
        """What is known of this segment; changes nothing but caches."""
        from_client = (segment.source, segment.source_port) == self.client
        verdict = Verdict(
            number=packet.number,
            time=packet.time,
            octets=packet.octets,
            segment=segment,
            option=None,
            from_client=from_client,
            outcome=Outcome.UNSIGNED,
            reason='without TCP-AO',
        )
        try:
            option = segment.ao_option()
        except MalformedSegmentError as error:
            return replace(verdict, outcome=Outcome.BAD, reason=str(error))
        if option is None:
            return verdict
        verdict = replace(verdict, option=option)
        isns = self._isns(segment, from_client=from_client)
        if isns is None:
            return replace(
                verdict,
                outcome=Outcome.UNVERIFIABLE,
                reason="the capture doesn't hold the SYN and SYN-ACK",
            )
        return self._judge_signed(verdict, option, *isns)

    def _isns(self, segment: Segment, *, from_client: bool) -> tuple[int, int] | None:
        """Source and destination ISN for the KDF (RFC 5925 5.2)."""
        if segment.is_opening:
            return segment.sequence, 0
        here, there = self._directions(from_client=from_client)
        source = segment.sequence if segment.is_syn_ack else here.isn
        if source is None or there.isn is None:
            return None
        return source, there.isn

    def _directions(self, *, from_client: bool) -> tuple[Direction, Direction]:
        return (self.outward, self.inward) if from_client else (self.inward, self.outward)

    def _judge_signed(
        self, verdict: Verdict, option: AoOption, source_isn: int, destination_isn: int
    ) -> Verdict:
        segment, from_client = verdict.segment, verdict.from_client
        here, _ = self._directions(from_client=from_client)
        # A SYN or SYN-ACK carries the ISN itself, so its SNE is 0.
        handshake = segment.is_opening or segment.is_syn_ack
        verdict = replace(
            verdict,
            source_isn=source_isn,
            destination_isn=destination_isn,
            sne=0 if handshake else here.follower.sne_of(segment.sequence),
        )
        candidates = [
            key for key in self.keys if key.may_sign(from_client=from_client, key_id=option.key_id)
        ]
        for key in candidates:
            for tcp_options in self._coverage(key):
                if self._verifies(verdict, option, key, tcp_options=tcp_options):
                    known = here.isn is not None
                    return replace(
                        verdict,
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
        """Options in the MAC or not, the likelier first: a segment without any fits both."""
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

    def take(self, verdict: Verdict) -> None:
        """The segment belongs to this connection: remember it, and move on if it is good."""
        self.verdicts.append(verdict)
        self.has_ao = self.has_ao or verdict.option is not None
        segment = verdict.segment
        here, _ = self._directions(from_client=verdict.from_client)
        good = verdict.outcome is Outcome.GOOD
        # An ISN that nothing vouches for is replaced by one that a MAC vouches for.
        if (segment.is_opening or segment.is_syn_ack) and (good or here.isn is None):
            here.begin(segment.sequence)
        if verdict.key is not None and verdict.tcp_options is not None:
            self._covered[id(verdict.key)] = verdict.tcp_options
            here.follower.advance(segment.sequence, segment.length)
            if self.keys[0] is not verdict.key:
                self.keys = [
                    verdict.key,
                    *(key for key in self.keys if key is not verdict.key),
                ]


class Verifier:
    """Takes packets in the order of the capture; `connections` grows with them."""

    def __init__(self, keys: Sequence[KnownKey]) -> None:
        self._keys = list(keys)
        self._live: dict[frozenset[Endpoint], list[Connection]] = {}
        self.connections: list[Connection] = []
        self.malformed: list[tuple[Packet, str]] = []
        """Packets that hold TCP, but not a whole segment, and why."""

    def feed(self, packet: Packet) -> Verdict | None:
        """Judge one packet; None if it isn't a TCP segment, or not a whole one."""
        try:
            segment = parse_ip(packet.octets)
        except MalformedSegmentError as error:
            self.malformed.append((packet, str(error)))
            return None
        if segment is None:
            return None
        connection, verdict = self._attribute(packet, segment)
        connection.take(verdict)
        return verdict

    def _attribute(self, packet: Packet, segment: Segment) -> tuple[Connection, Verdict]:
        """The connection that a segment belongs to, and the verdict on it there."""
        source = (segment.source, segment.source_port)
        destination = (segment.destination, segment.destination_port)
        live = self._live.setdefault(frozenset((source, destination)), [])
        if segment.is_opening:
            matching = [
                connection
                for connection in live
                if connection.client == source and connection.outward.isn == segment.sequence
            ]
        elif segment.is_syn_ack:
            # The SYN that it answers: whoever tries again has another ISN.
            answered = (segment.acknowledgment - 1) % (1 << 32)
            matching = [
                connection
                for connection in live
                if connection.server == source and connection.outward.isn == answered
            ] or live
        else:
            matching = live
        verdicts = [(connection, connection.judge(packet, segment)) for connection in matching]
        if verdicts:
            return max(verdicts, key=_belongs)
        if segment.is_syn_ack:
            source, destination = destination, source
        connection = self._open(live, source, destination)
        return connection, connection.judge(packet, segment)

    def _open(self, live: list[Connection], client: Endpoint, server: Endpoint) -> Connection:
        keys = [key for key in self._keys if key.may_protect(client, server)]
        connection = Connection(client, server, keys)
        self.connections.append(connection)
        if len(live) == _REMEMBERED:
            # A flood of forged SYNs must not push the real connection out.
            live.remove(next((old for old in reversed(live) if not old.is_open), live[-1]))
        live.insert(0, connection)
        return connection


def _belongs(attribution: tuple[Connection, Verdict]) -> tuple[bool, bool, bool]:
    """How likely a segment is this connection's; of equals, the newest comes first.

    Its MAC decides. What is unsigned, or fails, is laid to a connection that came up, or else to
    one that has TCP-AO, rather than to the remains of a forged SYN.
    """
    connection, verdict = attribution
    stray = connection.has_ao and not connection.is_open
    return verdict.outcome is Outcome.GOOD, connection.is_open, stray
