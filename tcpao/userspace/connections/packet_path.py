"""The packet path: the decision about each packet of the queue. No I/O.

A packet goes in, and comes out, perhaps changed, or is dropped. Commands set which sockets are
protected, and with which keys (`sockets_table`). A packet that belongs to no protected socket
passes unchanged: a rule may be wider than its selectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tcpao.mkt import IPAddress
from tcpao.userspace.connections.connection import Connection
from tcpao.userspace.connections.handshake import Handshake, refuse_unknown, refuse_unsigned
from tcpao.userspace.connections.listeners import keys_for
from tcpao.userspace.connections.owners import Owners
from tcpao.userspace.connections.sockets_table import SocketsTable, pair_of_flow
from tcpao.userspace.connections.waiting import Entry
from tcpao.userspace.wire import icmp
from tcpao.userspace.wire.options import MalformedError, find_ao, with_lower_mss
from tcpao.userspace.wire.packet import (
    ACK,
    FLAGS,
    RST,
    SYN,
    TCP_HEADER,
    flow_of,
    locate,
    with_options,
)
from tcpao.userspace.wire.seal import Received

# Octets of the headers of IP and TCP without options.
_HEADERS: Final = {4: 40, 6: 60}


class PacketPath(SocketsTable):
    """The path of packets through the keys of a table of sockets."""

    def __init__(
        self, mtu_between: Callable[[IPAddress, IPAddress], int | None], owners: Owners
    ) -> None:
        """Take `mtu_between`, which returns the MTU from a local to a remote address, None if
        unknown.

        It is called once for each handshake that a peer begins. `owners` is asked for each SYN, and
        for each segment of a connection that has ended.
        """
        super().__init__()
        self._mtu_between = mtu_between
        self._owners = owners

    # --- out --------------------------------------------------------------------------------

    def outgoing(self, packet: bytes, *, partial: bool = False, interface: int = 0) -> bytes | None:
        """Return the packet to send instead of our TCP's, None to drop it.

        `partial`: the TCP checksum was left to the hardware. `interface`: the device's index.
        """
        place = locate(packet)
        if place is None:
            self.tally.malformed += 1
            return None
        start, data = place
        entry = self.sent_by.get(flow_of(packet, start))
        try:
            if isinstance(entry, Connection):
                if packet[start + FLAGS] & SYN and not self._is_of_owner(
                    entry, packet, start, interface
                ):
                    self.tally.unsendable += 1
                    return None
                return entry.sign(packet, start, data, partial=partial)
            return self._before_connection(packet, start, data, entry, partial)
        except MalformedError:
            self.tally.malformed += 1
            return None

    def _is_of_owner(self, entry: Connection, packet: bytes, start: int, interface: int) -> bool:
        """Return True if this SYN, or SYN-ACK, begins this very connection.

        Another socket may have, or may have had, the same addresses and ports.
        """
        if packet[start + FLAGS] & ACK:
            if not entry.is_answer_to_another(packet, start):
                return not entry.began_at_another(packet, start)
            # Our TCP has lost this connection (its owner did not accept it in time), and accepts a
            # new SYN. This answer can't be signed; the peer's next SYN is for the listener.
            self.lose(entry)
            return False
        cookie = entry.cookie
        if cookie is not None and self._owners.has_pair(cookie, entry.pair, interface):
            entry.interface = interface
            return not entry.began_at_another(packet, start)
        if entry.released_until is not None:
            # Another socket has the pair: the kernel has forgotten ours. If that socket is another
            # daemon's, its repeated SYN must reach that daemon's queue.
            self.lose(entry)
        return False

    def last_words(self, packet: bytes, *, partial: bool = False) -> bytes | None:
        """Return the packet as `outgoing`, but only for a RST: the daemon is gone."""
        place = locate(packet)
        if place is None or not packet[place[0] + FLAGS] & RST:
            return None
        return self.outgoing(packet, partial=partial)

    def _before_connection(
        self, packet: bytes, start: int, data: int, entry: Entry | None, partial: bool
    ) -> bytes | None:
        pair = pair_of_flow(flow_of(packet, start))
        if pair is None:
            raise MalformedError
        listeners = self.listeners.receivers(pair)
        if isinstance(entry, Handshake):
            return entry.sign(packet, start, data, listeners, partial=partial)
        if not keys_for(listeners, pair):
            return None if self.heritage.holds(pair) else packet
        # A connection that is older than its peer's protection, or whose state we don't have.
        if packet[start + FLAGS] & RST:
            # A RST may pass, as in the kernel: nothing else would tell the peer of the end.
            return packet
        self.tally.unsendable += 1
        return None

    # --- in ---------------------------------------------------------------------------------

    def incoming(self, packet: bytes, *, partial: bool = False, interface: int = 0) -> bytes | None:
        """Return the packet that TCP gets instead of an arriving one, None to drop it.

        `partial`: the packet comes from this host, and its TCP checksum was left to the hardware.
        `interface`: the index of the device that it arrived by.
        """
        place = locate(packet)
        if place is None:
            if icmp.is_icmp(packet):
                return self._error(packet)
            self.tally.malformed += 1
            return None
        start, data = place
        flow = flow_of(packet, start)
        entry = self.received_by.get(flow)
        try:
            if isinstance(entry, Connection):
                over = entry.is_over or entry.released_until is not None
                if not over or packet[start + FLAGS] & (SYN | ACK) != SYN:
                    segment = entry.verify(packet, start, data)
                    if segment is None or not self._reaches_owner(entry, interface):
                        return None
                    return self._for_tcp(segment, entry, partial)
                # The peer opens a new connection, and our TCP has finished the old one.
                entry = None
            return self._to_listener(packet, start, data, flow, entry, partial, interface)
        except MalformedError:
            self.tally.malformed += 1
            return None

    def _reaches_owner(self, entry: Connection, interface: int) -> bool:
        """Return True unless a verified segment of this connection could reach another socket.

        While its own socket has the pair no other socket can have it; before and after, another
        might.
        """
        if entry.cookie is None or (entry.released_until is None and not entry.is_over):
            return True
        return self._owners.is_free_of_others(entry.cookie, entry.pair, interface)

    def _to_listener(
        self,
        packet: bytes,
        start: int,
        data: int,
        flow: bytes,
        handshake: Handshake | None,
        partial: bool,
        interface: int,
    ) -> bytes | None:
        sender = pair_of_flow(flow)
        if sender is None:
            raise MalformedError
        pair = sender.reversed()
        listeners = self.listeners.receivers(pair)
        if not keys_for(listeners, pair):
            # No MKT matches (RFC 5925 7.3): the segment passes, unless its pair was protected.
            return packet if handshake is None and not self.heritage.holds(pair) else None
        if packet[start + FLAGS] & (SYN | ACK) == SYN:
            opening = handshake or Handshake(pair, self.tally)
            segment = opening.receive_syn(packet, start, data, listeners)
            if segment is None:
                return None
            keyed = {one.cookie for one in listeners}
            if not self._owners.receives_syn(keyed, pair, interface):
                # Another socket listens there, or none does yet: the peer repeats its SYN.
                return None
            self.put(opening)
            return self._for_tcp(segment, opening, partial)
        if handshake is None:
            if find_ao(packet[start + TCP_HEADER : data]) < 0:
                refuse_unsigned(listeners, self.tally)
            else:
                refuse_unknown(listeners, self.tally)
            return None
        finished = handshake.receive_ack(packet, start, data, listeners)
        if finished is None:
            return None
        segment, connection = finished
        if connection is not None:
            connection.interface = interface
            self.put(connection)
        return segment.stripped(partial=partial)

    def _for_tcp(self, segment: Received, entry: Entry, partial: bool) -> bytes:
        packet, start = segment.packet, segment.start
        stripped = segment.stripped(partial=partial)
        if not packet[start + FLAGS] & SYN:
            return stripped
        place = locate(stripped)
        assert place is not None
        version = packet[0] >> 4
        options = with_lower_mss(
            stripped[start + TCP_HEADER : place[1]], version, self._own_mss(entry, version)
        )
        return with_options(stripped, start, place[1], options, partial)

    def _own_mss(self, entry: Entry, version: int) -> int | None:
        """Return the MSS that fits our own link: announced by our TCP, or computed from the MTU."""
        if isinstance(entry, Connection) and entry.announced_mss is not None:
            return entry.announced_mss
        mtu = self._mtu_between(entry.pair.local, entry.pair.remote)
        return None if mtu is None else mtu - _HEADERS[version]

    # --- ICMP -------------------------------------------------------------------------------

    def _error(self, packet: bytes) -> bytes | None:
        flow = icmp.quoted_flow(packet)
        entry = self.sent_by.get(flow) if flow is not None else None
        if entry is None:
            return packet
        synchronized = isinstance(entry, Connection) and entry.is_synchronized
        if synchronized and icmp.is_ignored(packet):
            self.tally.icmps += 1
            return None
        return packet
