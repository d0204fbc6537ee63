"""A handshake that the peer has begun, until it completes and becomes a Connection.

A SYN decides nothing: anyone can repeat an old one, and with SYN cookies our TCP answers each SYN
with another ISN. Only our TCP's SYN-ACK counts, and which of them the peer acknowledges. Keys are
the listener's until the end: the removal of a key breaks the handshake, as in the kernel.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

from tcpao.mkt import SocketPair
from tcpao.sne import sne_of
from tcpao.userspace.connections.connection import Connection, Macs
from tcpao.userspace.connections.keyring import Keyring, StoredKey
from tcpao.userspace.connections.listeners import Listener, keys_for
from tcpao.userspace.wire.packet import ACK, FIN, FLAGS, RST, SYN
from tcpao.userspace.wire.seal import (
    Received,
    Tally,
    acknowledgment_of,
    option_head,
    received,
    seal,
    sequence_of,
)

# SYNs with different ISNs, and answers to them, that are kept for one socket pair.
REMEMBERED = 8

_SPACE = 1 << 32

_What = TypeVar('_What')


class Handshake:
    """The state of one socket pair's handshake."""

    def __init__(self, pair: SocketPair, tally: Tally) -> None:
        self.pair = pair
        self._tally = tally
        self._macs = Macs(pair)
        self._syns: OrderedDict[int, tuple[int, int]] = OrderedDict()
        """By the peer's ISN: KeyID and RNextKeyID of its SYN."""
        self._answers: OrderedDict[int, int] = OrderedDict()
        """By our ISN: the peer's."""

    # --- in ---------------------------------------------------------------------------------

    def receive_syn(
        self, packet: bytes, start: int, data: int, listeners: list[Listener]
    ) -> Received | None:
        """Return the segment of a SYN if it is good, None to drop it. Raises MalformedError."""
        sequence = sequence_of(packet, start)
        segment = self._verified(packet, start, data, listeners, lisn=0, risn=sequence)
        if segment is not None:
            _remember(self._syns, sequence, (segment.key_id, segment.rnext_key_id))
        return segment

    def receive_ack(
        self, packet: bytes, start: int, data: int, listeners: list[Listener]
    ) -> tuple[Received, Connection | None] | None:
        """Judge a segment after our SYN-ACK: None to drop it. Raises MalformedError.

        Returns a Connection too if the segment completes the handshake.
        """
        flags = packet[start + FLAGS]
        lisn = (acknowledgment_of(packet, start) - 1) % _SPACE
        if not flags & ACK or lisn not in self._answers:
            # A RST need not acknowledge anything.
            lisn = next(reversed(self._answers), lisn)
        risn = self._answers.get(lisn)
        if risn is None:
            # Not answered yet. RFC 5925 7.4: without ISNs no MAC can be verified.
            self._tally.bad += 1
            return None
        segment = self._verified(packet, start, data, listeners, lisn=lisn, risn=risn)
        if segment is None:
            return None
        if flags & (RST | SYN) or not flags & ACK:
            return segment, None
        connection = self._connection(listeners, lisn, risn)
        octets = len(packet) - data + bool(flags & FIN)
        connection.began_with(sequence_of(packet, start), octets)
        return segment, connection

    def _verified(
        self,
        packet: bytes,
        start: int,
        data: int,
        listeners: list[Listener],
        *,
        lisn: int,
        risn: int,
    ) -> Received | None:
        segment = received(packet, start, data)
        if segment is None:
            refuse_unsigned(listeners, self._tally)
            return None
        key = next((k for k in keys_for(listeners, self.pair) if k.recv_id == segment.key_id), None)
        if key is None:
            refuse_unknown(listeners, self._tally)
            return None
        sne = sne_of(risn, sequence_of(packet, start))
        mac = self._macs.make(key, sending=False, lisn=lisn, risn=risn, sne=sne)
        if not segment.is_good(mac, tcp_options=key.tcp_options):
            key.bad += 1
            self._tally.bad += 1
            return None
        key.good += 1
        self._tally.good += 1
        return segment

    def _connection(self, listeners: list[Listener], lisn: int, risn: int) -> Connection:
        """Return the child, with the listener's keys for this connection and counters from zero.

        Current is the key that the SYN asked for, RNext the key that signed the SYN.
        """
        keys = [key.inherited() for key in keys_for(listeners, self.pair)]
        keyring = Keyring(keys)
        key_id, rnext_key_id = self._syns.get(risn, (None, None))
        keyring.current = next((k for k in keys if k.send_id == rnext_key_id), keys[0])
        keyring.rnext = next((k for k in keys if k.recv_id == key_id), keys[0])
        child = Connection(self.pair, keyring, self._tally)
        child.established(lisn, risn)
        return child

    # --- out --------------------------------------------------------------------------------

    def sign(
        self, packet: bytes, start: int, data: int, listeners: list[Listener], *, partial: bool
    ) -> bytes | None:
        """Return the signed SYN-ACK, or RST in its place; None to drop it.

        Raises MalformedError.
        """
        flags = packet[start + FLAGS]
        sequence = sequence_of(packet, start)
        answer = flags & (SYN | ACK) == SYN | ACK
        if answer:
            lisn, risn = sequence, (acknowledgment_of(packet, start) - 1) % _SPACE
        else:
            lisn = next(reversed(self._answers), sequence)
            risn = self._answers.get(lisn, 0)
        key_id, rnext_key_id = self._syns.get(risn, (None, None))
        key = self._answering(listeners, rnext_key_id)
        if key is None or key_id is None or (flags & SYN and not answer):
            # Send nothing rather than a segment without MAC, or with another key than the peer has
            # asked for.
            self._tally.unsendable += 1
            return None
        if answer:
            _remember(self._answers, lisn, risn)
        sne = sne_of(lisn, sequence)
        signed = seal(
            packet,
            start,
            data,
            self._macs.make(key, sending=True, lisn=lisn, risn=risn, sne=sne),
            option_head(key.option_length, key.send_id, key_id),
            tcp_options=key.tcp_options,
            partial=partial,
        )
        if signed is None:
            self._tally.unsendable += 1
        return signed

    def _answering(self, listeners: list[Listener], rnext_key_id: int | None) -> StoredKey | None:
        """Return the key that the SYN's RNextKeyID asks for (RFC 5925 7.4)."""
        return next((k for k in keys_for(listeners, self.pair) if k.send_id == rnext_key_id), None)


def refuse_unsigned(listeners: list[Listener], tally: Tally) -> None:
    """Count a segment without TCP-AO."""
    tally.unsigned += 1
    listeners[0].keyring.unsigned += 1


def refuse_unknown(listeners: list[Listener], tally: Tally) -> None:
    """Count a segment with an unknown KeyID."""
    tally.not_found += 1
    listeners[0].keyring.not_found += 1


def _remember(memory: OrderedDict[int, _What], isn: int, what: _What) -> None:
    memory[isn] = what
    memory.move_to_end(isn)
    if len(memory) > REMEMBERED:
        memory.popitem(last=False)
