"""Verification of the TCP-AO MAC of every segment of a capture, given master keys.

Follows each connection from its SYN: ISNs, both directions' SNE, the key in use. Several
connections in succession on one socket pair are distinguished by the opener's ISN. Only a good MAC
opens another one inside a signed connection, or ends that: all unsigned segments on its pair until
then, SYNs too, belong to it, so that a forged handshake does not hide the next forgery. The capture
is read by `tcpao.verification.capture`, the results are described by `tcpao.verification.report`.

A segment is one of four things. *Good*: a given key verifies it. *Bad*: it should verify and does
not, or it is unsigned in a connection that has any TCP-AO. *Unsigned*: in a connection without any
TCP-AO. *Unverifiable*: no result, since its key or an ISN is missing.
"""

from __future__ import annotations

from collections.abc import Sequence

from tcpao.verification.capture import Packet
from tcpao.verification.connection import REMEMBERED, SPACE, Connection, GivenIsns
from tcpao.verification.known_keys import Endpoint, KnownKey
from tcpao.verification.segment import MalformedSegmentError, Segment, parse_ip
from tcpao.verification.verdict import LISTED_PROBLEMS, Outcome, Verdict

__all__ = ['Outcome', 'Verdict', 'Verifier']


class Verifier:
    """A verifier of packets in the order of the capture; `connections` grows with them."""

    def __init__(
        self, keys: Sequence[KnownKey], isns: Sequence[GivenIsns] = (), *, keep: bool = True
    ) -> None:
        """Take keys and ISNs; with `keep`, all verdicts stay in memory."""
        self.keys = list(keys)
        self._isns = list(isns)
        self._keep = keep
        self._live: dict[frozenset[Endpoint], list[Connection]] = {}
        self.connections: list[Connection] = []
        self.malformed: list[tuple[int, str]] = []
        """The first of the packets that hold TCP, but not a whole segment: number, and reason."""
        self.malformed_count = 0

    def feed(self, packet: Packet) -> Verdict | None:
        """Judge one packet; None if it isn't a TCP segment, or not a whole one."""
        try:
            segment = parse_ip(packet.octets)
        except MalformedSegmentError as error:
            self.malformed_count += 1
            if len(self.malformed) < LISTED_PROBLEMS:
                self.malformed.append((packet.number, str(error)))
            return None
        if segment is None:
            return None
        connection, verdict = self._attribute(packet, segment)
        connection.take(verdict, keep=self._keep)
        return verdict

    def _attribute(self, packet: Packet, segment: Segment) -> tuple[Connection, Verdict]:
        """Return the connection that a segment belongs to, and the verdict on it there."""
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
            # The SYN that it answers: a new attempt has another ISN.
            answered = (segment.acknowledgment - 1) % SPACE
            matching = [
                connection
                for connection in live
                if connection.server == source and connection.outward.isn == answered
            ] or live
        else:
            matching = live
        verdicts = [(connection, connection.judge(packet, segment)) for connection in matching]
        signed = next((connection for connection in live if connection.is_signed), None)
        bare = not verdicts or verdicts[0][1].option is None
        if bare and signed is not None and not signed.has_ended:
            inside = signed.judge(packet, segment)
            if inside.option is None:
                return signed, inside
        if verdicts:
            return max(verdicts, key=_belongs)
        connection = self._open(live, segment, source, destination)
        return connection, connection.judge(packet, segment)

    def _open(
        self, live: list[Connection], segment: Segment, source: Endpoint, destination: Endpoint
    ) -> Connection:
        """Begin a connection with the first segment of it in the capture."""
        given = self._given(segment, source, destination)
        if segment.is_syn_ack or (given is not None and given.client == destination):
            source, destination = destination, source
        keys = [key for key in self.keys if key.may_protect(source, destination)]
        connection = Connection(source, destination, keys)
        if segment.is_syn_ack:
            connection.outward.begin((segment.acknowledgment - 1) % SPACE)
        elif given is not None:
            connection.outward.begin_before(given.client_isn)
            connection.inward.begin_before(given.server_isn)
        self.connections.append(connection)
        if len(live) == REMEMBERED:
            # A flood of forged SYNs must not push the real connection out.
            live.remove(min(reversed(live), key=lambda old: (old.is_up, old.is_signed)))
        live.insert(0, connection)
        return connection

    def _given(self, segment: Segment, source: Endpoint, destination: Endpoint) -> GivenIsns | None:
        """Return the ISNs that are given for the connection that this segment begins."""
        for given in self._isns:
            if segment.is_opening:
                # The SYN is in the capture, but the SYN-ACK may not be.
                if (given.client, given.server, given.client_isn) == (
                    source,
                    destination,
                    segment.sequence,
                ):
                    return given
            elif {given.client, given.server} == {source, destination}:
                return given
        return None


def _belongs(attribution: tuple[Connection, Verdict]) -> tuple[bool, bool, bool]:
    """Return how likely a segment belongs to a connection; of equals, the newest comes first.

    Its MAC decides. A segment that is unsigned, or has a bad MAC, is assigned to a connection
    that is up, or else to one that has TCP-AO. The rest of a forged SYN comes last.
    """
    connection, verdict = attribution
    stray = connection.has_ao and not connection.is_open
    return verdict.outcome is Outcome.GOOD, connection.is_up, stray
