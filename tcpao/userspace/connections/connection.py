"""One connection that has TCP-AO: its ISNs, its SNEs, and the keys that sign and verify.

From its first SYN on if we opened it, from the end of its handshake on if the peer did
(`handshake`). No I/O, no clock: a segment goes in, and comes out signed or stripped, or is dropped.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tcpao import kdf
from tcpao.key_socket import SocketState
from tcpao.mkt import SocketPair
from tcpao.sne import SneFollower
from tcpao.userspace.connections.keyring import Keyring, StoredKey
from tcpao.userspace.wire.options import mss_of
from tcpao.userspace.wire.packet import ACK, FIN, FLAGS, RST, SYN, TCP_HEADER, pseudo_header_prefix
from tcpao.userspace.wire.seal import (
    Received,
    Tally,
    acknowledgment_of,
    option_head,
    received,
    seal,
    sequence_of,
)
from tcpao.userspace.wire.signing import Mac, mac_function

# TCP counts SYN and FIN as octets where we don't, or the reverse.
_UNCOUNTED: Final = 2

# Two SNEs of two keys, both directions: more are never needed, and fewer are slow while segments
# are reordered around a wrap.
_MACS_KEPT = 8


class Macs:
    """The MAC functions of one connection, made when first needed."""

    def __init__(self, pair: SocketPair) -> None:
        self._pair = pair
        local, remote = pair.local.packed, pair.remote.packed
        self._prefixes = {
            True: pseudo_header_prefix(local, remote),
            False: pseudo_header_prefix(remote, local),
        }

    def make(self, key: StoredKey, *, sending: bool, lisn: int, risn: int, sne: int) -> Mac:
        """Return the MAC of segments that we send or receive; a SYN's other ISN is 0 (RFC 5925
        5.2).
        """
        pair = self._pair
        if sending:
            context = kdf.context(
                pair.local, pair.remote, pair.local_port, pair.remote_port, lisn, risn
            )
        else:
            context = kdf.context(
                pair.remote, pair.local, pair.remote_port, pair.local_port, risn, lisn
            )
        return mac_function(key.algorithm, key.master_key, context, sne, self._prefixes[sending])


class Connection:
    """The packets and keys of a connection."""

    def __init__(self, pair: SocketPair, keyring: Keyring, tally: Tally) -> None:
        self.pair = pair
        self.keyring = keyring
        self.cookie: int | None = None
        """SO_COOKIE of the socket; None until its owner has accepted the connection."""
        self.released_until: float | None = None
        """When to forget this connection; None while its socket is known to be open."""
        self.is_live = False
        """True while its packets have priority: its owner knows it, and has not closed it."""
        self.interface = 0
        """Index of the device of its handshake, which is part of the kernel's identification of a
        socket."""
        self.is_bypassed = False
        """True once octets have passed TCP that were not signed or not verified."""
        self.announced_mss: int | None = None
        """The MSS in our TCP's SYN, which fits our own link."""
        self._tally = tally
        self._macs = Macs(pair)
        self._lisn: int | None = None
        self._risn: int | None = None
        self._sent = SneFollower(0)
        self._got = SneFollower(0)
        self._was_reset = False
        self._fins: set[bool] = set()
        self._signing: tuple[int, StoredKey, StoredKey, Mac, bytes] | None = None
        self._verifying: dict[tuple[StoredKey, int], Mac] = {}

    # --- what is known of it ----------------------------------------------------------------

    @property
    def is_fresh(self) -> bool:
        """Return True if no SYN was sent yet."""
        return self._lisn is None

    @property
    def is_synchronized(self) -> bool:
        """Return True from ESTABLISHED on: both ISNs are known."""
        return self._risn is not None

    @property
    def is_over(self) -> bool:
        """Return True once TCP does not need this connection any more, TIME-WAIT aside."""
        never_came_up = self.released_until is not None and not self.is_synchronized
        return self._was_reset or len(self._fins) == 2 or never_came_up

    def is_answer_to_another(self, packet: bytes, start: int) -> bool:
        """Return True for a SYN-ACK of ours to another SYN than this connection's first.

        Then this connection does not exist any more.
        """
        return (
            self._risn is not None
            and bool(packet[start + FLAGS] & ACK)
            and (acknowledgment_of(packet, start) - 1 - self._risn) % (1 << 32) != 0
        )

    def began_at_another(self, packet: bytes, start: int) -> bool:
        """Return True for a SYN or SYN-ACK of ours with another ISN than this connection's."""
        return self._lisn is not None and sequence_of(packet, start) != self._lisn

    def find_bypass(self, acknowledged: int, received: int) -> bool:
        """Return True, and note it, if TCP has octets that were not signed or not verified.

        `acknowledged` and `received` are TCP's own counts of octets (struct tcp_info).
        """
        if self._lisn is not None and self._risn is not None:
            signed = self._sent.octets_since(self._lisn)
            verified = self._got.octets_since(self._risn)
            if acknowledged > signed + _UNCOUNTED or received > verified + _UNCOUNTED:
                self.is_bypassed = True
        elif received:
            # TCP has a state whose handshake did not pass here.
            self.is_bypassed = True
        return self.is_bypassed

    def state(self) -> SocketState:
        """Return the state of the keys.

        No key is Current or RNext before our SYN was signed and the peer's verified, or after
        octets have bypassed this process: then the state proves nothing.
        """
        state = self.keyring.state()
        if self.is_synchronized and not self.is_bypassed:
            return state
        return replace(state, current=None, rnext=None)

    def began_with(self, sequence: int, octets: int) -> None:
        """Note the octets of the segment that ended the peer's handshake.

        As in the kernel, that good segment counts for the listener's key.
        """
        self._got.advance(sequence, octets)

    def established(self, lisn: int, risn: int) -> None:
        """Note both ISNs."""
        self._lisn, self._risn = lisn, risn
        self._sent, self._got = SneFollower(lisn), SneFollower(risn)
        self._sent.advance(lisn, 1)
        self._got.advance(risn, 1)
        self.forget_macs()

    def forget_macs(self) -> None:
        """Forget the MAC functions, after a key or an ISN has changed."""
        self._signing = None
        self._verifying.clear()

    # --- out --------------------------------------------------------------------------------

    def sign(self, packet: bytes, start: int, data: int, *, partial: bool) -> bytes | None:
        """Return the segment with its MAC; None to drop it. Raises MalformedError."""
        current, rnext = self.keyring.current, self.keyring.rnext
        flags = packet[start + FLAGS]
        sequence = sequence_of(packet, start)
        if current is None or rnext is None or self._is_refused(flags, len(packet) - data):
            self._tally.unsendable += 1
            return None
        if flags & (SYN | ACK) == SYN:
            head = option_head(current.option_length, current.send_id, rnext.recv_id)
            mac = self._opening(packet[start + TCP_HEADER : data], sequence, current)
        elif self._lisn is None or self._risn is None:
            # RFC 5925 7.7: without the peer's ISN there is no traffic key, not even for a RST.
            self._tally.unsendable += 1
            return None
        else:
            sne = self._sent.sne_of(sequence)
            signing = self._signing
            if signing is None or signing[:3] != (sne, current, rnext):
                signing = self._signing = (
                    sne,
                    current,
                    rnext,
                    self._macs.make(
                        current, sending=True, lisn=self._lisn, risn=self._risn, sne=sne
                    ),
                    option_head(current.option_length, current.send_id, rnext.recv_id),
                )
            mac, head = signing[3], signing[4]
            length = len(packet) - data
            if flags & (FIN | RST | SYN):
                length += self._note_end(flags, sending=True)
            self._sent.advance(sequence, length)
        signed = seal(
            packet, start, data, mac, head, tcp_options=current.tcp_options, partial=partial
        )
        if signed is None:
            self._tally.unsendable += 1
        return signed

    def _is_refused(self, flags: int, octets: int) -> bool:
        """Return True for segments that the owner cannot have sent after closing the socket.

        A lingering connection may tell the peer that it has ended; new octets and a new SYN would
        be another socket's.
        """
        return self.released_until is not None and (bool(flags & SYN) or octets > 0)

    def _opening(self, options: bytes, sequence: int, key: StoredKey) -> Mac:
        """Return the MAC of our SYN, whose ISN becomes the connection's."""
        self._lisn = sequence
        self.announced_mss = mss_of(options)
        return self._macs.make(key, sending=True, lisn=sequence, risn=0, sne=0)

    # --- in ---------------------------------------------------------------------------------

    def verify(self, packet: bytes, start: int, data: int) -> Received | None:
        """Return the segment if its MAC is good, None to drop it. Raises MalformedError.

        Good segments update SNE and Current (RFC 5925 7.5.2).
        """
        segment = received(packet, start, data)
        keyring = self.keyring
        if segment is None:
            keyring.unsigned += 1
            self._tally.unsigned += 1
            return None
        key = keyring.receiving(segment.key_id)
        if key is None:
            keyring.not_found += 1
            self._tally.not_found += 1
            return None
        flags = packet[start + FLAGS]
        sequence = sequence_of(packet, start)
        mac = self._mac_of(key, flags, sequence)
        if mac is None or not segment.is_good(mac, tcp_options=key.tcp_options):
            key.bad += 1
            self._tally.bad += 1
            return None
        key.good += 1
        self._tally.good += 1
        if flags & (SYN | ACK) == SYN:
            if self._risn is None and self._lisn is not None:
                self.established(self._lisn, sequence)
            return segment
        if self._risn is None:
            if flags & SYN and self._lisn is not None:
                self.established(self._lisn, sequence)
            else:
                self._was_reset = True
            return segment
        self._follow(segment, flags, sequence, len(packet) - data)
        return segment

    def _mac_of(self, key: StoredKey, flags: int, sequence: int) -> Mac | None:
        lisn, risn = self._lisn, self._risn
        if lisn is None:
            return None
        if flags & (SYN | ACK) == SYN:
            return self._macs.make(key, sending=False, lisn=0, risn=sequence, sne=0)
        if risn is None:
            # In SYN-SENT a SYN-ACK brings the peer's ISN; as in Linux, so does a RST.
            if not flags & (SYN | RST):
                return None
            return self._macs.make(key, sending=False, lisn=lisn, risn=sequence, sne=0)
        sne = self._got.sne_of(sequence)
        mac = self._verifying.get((key, sne))
        if mac is None:
            if len(self._verifying) >= _MACS_KEPT:
                self._verifying.clear()
            mac = self._macs.make(key, sending=False, lisn=lisn, risn=risn, sne=sne)
            self._verifying[key, sne] = mac
        return mac

    def _follow(self, segment: Received, flags: int, sequence: int, length: int) -> None:
        keyring = self.keyring
        if keyring.current is None or keyring.current.send_id != segment.rnext_key_id:
            # An unknown id changes nothing.
            keyring.current = keyring.sending(segment.rnext_key_id) or keyring.current
        if flags & (FIN | RST | SYN):
            length += self._note_end(flags, sending=False)
        self._got.advance(sequence, length)

    def _note_end(self, flags: int, *, sending: bool) -> int:
        """Note how the connection ends; return the octets of sequence space of FIN and SYN."""
        if flags & RST:
            self._was_reset = True
        if flags & FIN:
            self._fins.add(sending)
        return bool(flags & FIN) + bool(flags & SYN)
