"""A network and TCP sockets that exist in memory only, with TCP-AO as Linux has it.

Not TCP: segments arrive at once and in order, or not at all (`Network.deliver`), and MACs are not
computed, keys are compared. What is kept is what the gatekeeper lives on: which key signs a
segment, which key it is looked up under, what is counted where, how Current and RNext move, what
a child inherits, and what the kernel refuses. Time stands still until `Network.advance`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto

from keymaterial import Secret
from tcpao.installer import Cause, Traffic
from tcpao.key_socket import InstalledKey, InstallError, Key, SocketState
from tcpao.mkt import ALGORITHMS, IPAddress, IPNetwork, SocketPair

# Keepalive probes, SYNs and unacknowledged data go out again after this many seconds.
INTERVAL = 1.0
# How much of the wire is remembered for tests to look at.
REMEMBERED_SEGMENTS = 10_000


class Kind(StrEnum):
    """The kind of a segment."""

    SYN = 'SYN'
    SYN_ACK = 'SYN-ACK'
    ACK = 'ACK'
    DATA = 'DATA'
    PROBE = 'PROBE'
    RST = 'RST'


class State(Enum):
    """A socket's TCP state, as coarse as TCP-AO needs it."""

    CLOSED = auto()
    LISTEN = auto()
    SYN_SENT = auto()
    ESTABLISHED = auto()
    DEAD = auto()


@dataclass(slots=True)
class StoredKey:
    """A key on a socket."""

    peer: IPNetwork
    send_id: int
    recv_id: int
    material: tuple[str, bool, Secret]
    """Algorithm, options flag and secret: two ends agree only if all three do."""
    good: int = 0
    bad: int = 0

    def copy(self) -> StoredKey:
        """Return the key as a child inherits it: with its own counters, from zero."""
        return StoredKey(self.peer, self.send_id, self.recv_id, self.material)


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment on the wire; `pair` is as its sender sees it."""

    kind: Kind
    pair: SocketPair
    seq: int = 0
    ack: int = 0
    data: bytes = b''
    key_id: int | None = None
    """None: without TCP-AO."""
    rnext_key_id: int | None = None
    material: tuple[str, bool, Secret] | None = None


@dataclass
class Network:
    """Carries segments between sockets, and holds the one clock."""

    now: float = 0.0
    deliver: Callable[[Segment], bool] = lambda _: True
    """Asked for every segment; False loses it."""
    algorithms: frozenset[str] = frozenset(
        name for name, algorithm in ALGORITHMS.items() if algorithm.linux_name
    )
    """What the simulated kernel has."""
    keys_per_socket: int = 1_000
    """What a socket's option memory has room for."""
    sockets: list[MemorySocket] = field(default_factory=list)
    wire: deque[Segment] = field(default_factory=lambda: deque(maxlen=REMEMBERED_SEGMENTS))

    def listen(self, address: IPAddress, port: int) -> MemorySocket:
        """A listening socket; the any-address receives for every address of its family."""
        return MemorySocket(self, address, port, State.LISTEN)

    def socket(self, pair: SocketPair) -> MemorySocket:
        """A closed socket, bound to `pair.local`, that will connect to `pair.remote`."""
        return MemorySocket(self, pair.local, pair.local_port, State.CLOSED, pair)

    def next_deadline(self) -> float | None:
        """When `advance` will next send something, if anything waits to be sent."""
        return min((s.due for s in self.sockets if s.due is not None), default=None)

    def advance(self, now: float) -> None:
        """Let time pass: probes, SYNs and data go out again, in order of their time."""
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            self.now = max(self.now, deadline)
            for socket in list(self.sockets):
                if socket.due is not None and socket.due <= self.now:
                    socket.on_timer()
        self.now = now

    def transmit(self, segment: Segment) -> None:
        """Put a segment on the wire."""
        self.wire.append(segment)
        if not self.deliver(segment):
            return
        pair = segment.pair.reversed()
        for socket in self.sockets:
            if socket.pair == pair and socket.state in (State.SYN_SENT, State.ESTABLISHED):
                socket.receive(segment)
                return
        listeners = [s for s in self.sockets if s.state is State.LISTEN and s.is_bound_for(pair)]
        if listeners:
            # The most specific address wins.
            min(listeners, key=lambda s: s.local.packed == bytes(len(s.local.packed))).hear(segment)


class MemorySocket:
    """One TCP socket: for its owner connect, accept, send, close; for a backend a KeySocket."""

    def __init__(
        self,
        network: Network,
        local: IPAddress,
        local_port: int,
        state: State,
        pair: SocketPair | None = None,
    ) -> None:
        self.network = network
        self.local = local
        self.local_port = local_port
        self.state = state
        self.pair = pair
        self.received = bytearray()
        self.due: float | None = None
        self._open = True
        self._keys: list[StoredKey] = []
        self._protected = False
        self._current: StoredKey | None = None
        self._rnext: StoredKey | None = None
        self._not_found = 0
        self._unsigned = 0
        self._of_removed = 0
        self._segments = 0
        self._octets = 0
        self._probing = False
        self._unacknowledged = bytearray()
        self._snd_una = 0
        self._rcv_nxt = 0
        self._half_open: dict[SocketPair, Segment] = {}
        self._accept_queue: deque[MemorySocket] = deque()
        network.sockets.append(self)

    # --- for the socket's owner -------------------------------------------------------------

    def connect(self) -> bool:
        """Send a SYN, and again every second; True if the connection is up at once."""
        if self.state is not State.CLOSED or self.pair is None:
            raise OSError(f'a socket in {self.state} cannot connect')
        self._keys = [key for key in self._keys if self.pair.remote in key.peer]
        if self._keys:
            if self._current is None:
                self._current = self._keys[0]
            if self._rnext is None:
                self._rnext = self._keys[0]
        else:
            self._protected = False
        self.state = State.SYN_SENT
        self._send(Kind.SYN)
        self._arm()
        return self.is_established()

    def is_established(self) -> bool:
        """True while the connection is up."""
        return self.state is State.ESTABLISHED

    def accept(self) -> MemorySocket | None:
        """The oldest connection that waits to be accepted, if any."""
        return self._accept_queue.popleft() if self._accept_queue else None

    def send(self, data: bytes) -> None:
        """Send octets; what isn't acknowledged goes out again every second."""
        if self.state is not State.ESTABLISHED:
            raise OSError('not connected')
        self._unacknowledged += data
        self._send(Kind.DATA)
        self._arm()

    def is_acknowledged(self) -> bool:
        """True if the peer has every octet sent."""
        return not self._unacknowledged

    def close(self) -> None:
        """Close the descriptor; SO_LINGER is {1, 0} on every socket here, so with a RST."""
        if self.state is State.ESTABLISHED:
            self._send(Kind.RST)
        self.vanish()

    def vanish(self) -> None:
        """End the socket without a word to the peer, as if the host had lost power."""
        for child in self._accept_queue:
            child.close()
        self._accept_queue.clear()
        self._die()
        self._open = False
        if self in self.network.sockets:
            self.network.sockets.remove(self)

    # --- KeySocket --------------------------------------------------------------------------

    def is_open(self) -> bool:
        return self._open

    def carries(self, pair: SocketPair) -> bool:
        return self.pair == pair

    def is_fresh(self) -> bool:
        return self.state is State.CLOSED

    def is_dead(self) -> bool:
        return self.state is State.DEAD

    def can_receive_syn(self, peer: IPNetwork, local: IPAddress | None, port: int) -> bool:
        return (
            self.local_port == port
            and self.local.version == peer.version
            and (local is None or self.hears_address(local))
        )

    def add(self, key: Key, *, select: bool) -> None:
        if key.algorithm.name not in self.network.algorithms:
            raise InstallError(Cause.UNSUPPORTED, f'no {key.algorithm.name} here')
        if self.state not in (State.CLOSED, State.LISTEN) and not self._protected:
            raise InstallError(Cause.REFUSED, 'the connection is up without TCP-AO')
        for other in self._keys:
            if other.peer.overlaps(key.peer) and (
                other.send_id == key.send_id or other.recv_id == key.recv_id
            ):
                raise InstallError(
                    Cause.KEYID_IN_USE, f'SendID {key.send_id} or RecvID {key.recv_id} is taken'
                )
        if len(self._keys) >= self.network.keys_per_socket:
            raise InstallError(Cause.NO_MEMORY, 'the option memory is full')
        material = (key.algorithm.name, key.tcp_options, Secret(key.master_key.reveal()))
        stored = StoredKey(key.peer, key.send_id, key.recv_id, material)
        self._keys.insert(0, stored)
        self._protected = True
        if select:
            self._current = self._rnext = stored

    def delete(
        self, peer: IPNetwork, send_id: int, recv_id: int, switch_to: InstalledKey | None = None
    ) -> None:
        key = self._stored(peer, send_id, recv_id)
        if switch_to is not None:
            self._current = self._rnext = self._stored(
                switch_to.peer, switch_to.send_id, switch_to.recv_id
            )
        if key in (self._current, self._rnext):
            raise InstallError(Cause.BUSY, f'SendID {send_id} is Current or RNext')
        self._keys.remove(key)
        self._of_removed += key.good

    def read(self) -> SocketState | None:
        if not self._protected:
            return None
        return SocketState(
            current=self._current.send_id if self._current else None,
            rnext=self._rnext.recv_id if self._rnext else None,
            keys=tuple(
                InstalledKey(
                    peer=key.peer,
                    send_id=key.send_id,
                    recv_id=key.recv_id,
                    is_current=key is self._current,
                    is_rnext=key is self._rnext,
                    good=key.good,
                    bad=key.bad,
                )
                for key in self._keys
            ),
            not_found=self._not_found,
            unsigned=self._unsigned,
            of_removed=self._of_removed,
        )

    def traffic(self) -> Traffic:
        return Traffic(self._segments, self._octets)

    def set_rnext(self, recv_id: int) -> None:
        for key in self._keys:
            if key.recv_id == recv_id:
                self._rnext = key
                return
        raise InstallError(Cause.GONE, f'no key has RecvID {recv_id}')

    def probe(self, on: bool) -> None:
        self._probing = on
        self._arm()

    def abort(self) -> None:
        if self.state is State.ESTABLISHED:
            self._send(Kind.RST)
        self._die()

    # --- segments out -----------------------------------------------------------------------

    def on_timer(self) -> None:
        """One second has passed with something to send."""
        if self.state is State.SYN_SENT:
            self._send(Kind.SYN)
        elif self._unacknowledged:
            self._send(Kind.DATA)
        elif self._probing:
            self._send(Kind.PROBE)
        self.due = None
        self._arm()

    def _arm(self) -> None:
        established = self.state is State.ESTABLISHED
        if self.state is State.SYN_SENT or (
            established and (self._probing or self._unacknowledged)
        ):
            if self.due is None:
                self.due = self.network.now + INTERVAL
        else:
            self.due = None

    def _send(self, kind: Kind) -> None:
        assert self.pair is not None
        key = self._current if self._protected else None
        segment = Segment(
            kind=kind,
            pair=self.pair,
            seq=self._snd_una,
            ack=self._rcv_nxt,
            data=bytes(self._unacknowledged) if kind is Kind.DATA else b'',
            key_id=key.send_id if key else None,
            rnext_key_id=self._rnext.recv_id if key and self._rnext else None,
            material=key.material if key else None,
        )
        self._count(segment)
        self.network.transmit(segment)

    def _count(self, segment: Segment) -> None:
        self._segments += 1
        self._octets += len(segment.data)

    # --- segments in, on a connection -------------------------------------------------------

    def receive(self, segment: Segment) -> None:
        """A segment for this connection; the network calls it."""
        if not self._verify(segment):
            return
        self._count(segment)
        if self.state is State.SYN_SENT:
            if segment.kind is Kind.SYN_ACK:
                self.state = State.ESTABLISHED
                self._arm()
                self._send(Kind.ACK)
            elif segment.kind is Kind.RST:
                self._die()
            return
        self._follow(segment)
        match segment.kind:
            case Kind.SYN:
                # A challenge ACK, which the peer answers with a RST: its old self is gone.
                self._die()
            case Kind.RST:
                self._die()
            case Kind.DATA:
                self._take(segment)
                self._send(Kind.ACK)
            case Kind.PROBE:
                self._send(Kind.ACK)
            case Kind.SYN_ACK:
                self._send(Kind.ACK)
            case Kind.ACK:
                acknowledged = segment.ack - self._snd_una
                if acknowledged > 0:
                    del self._unacknowledged[:acknowledged]
                    self._snd_una = segment.ack
                    self._arm()

    def _verify(self, segment: Segment) -> bool:
        if segment.key_id is None:
            if self._requires_ao_of(segment):
                self._unsigned += 1
                return False
            return True
        for key in self._keys:
            if key.recv_id == segment.key_id and segment.pair.local in key.peer:
                if key.material == segment.material:
                    key.good += 1
                    return True
                key.bad += 1
                return False
        self._not_found += 1
        return False

    def _requires_ao_of(self, segment: Segment) -> bool:
        return any(segment.pair.local in key.peer for key in self._keys)

    def _follow(self, segment: Segment) -> None:
        """Current follows the peer's RNextKeyID, if the key is known (RFC 5925 7.5.2)."""
        for key in self._keys:
            if key.send_id == segment.rnext_key_id:
                self._current = key

    def _take(self, segment: Segment) -> None:
        if segment.seq <= self._rcv_nxt:
            fresh = segment.data[self._rcv_nxt - segment.seq :]
            self.received += fresh
            self._rcv_nxt += len(fresh)

    # --- segments in, on a listener ---------------------------------------------------------

    def hear(self, segment: Segment) -> None:
        """A segment for no known connection, on a listening socket; the network calls it."""
        if not self._verify(segment):
            return
        pair = segment.pair.reversed()
        if segment.kind is Kind.SYN:
            reply: StoredKey | None = None
            if segment.key_id is not None:
                reply = self._inherited(pair, send_id=segment.rnext_key_id)
                if reply is None:
                    return
            self._half_open[pair] = segment
            self.network.transmit(
                Segment(
                    kind=Kind.SYN_ACK,
                    pair=pair,
                    key_id=reply.send_id if reply else None,
                    rnext_key_id=segment.key_id,
                    material=reply.material if reply else None,
                )
            )
        elif (syn := self._half_open.get(pair)) is not None:
            if (syn.key_id is None) != (segment.key_id is None):
                return
            del self._half_open[pair]
            if segment.kind is not Kind.RST:
                child = self._child(pair, syn)
                # The handshake's last segment was counted here, on the listener.
                if segment.kind is Kind.DATA:
                    child._take(segment)
                    child._send(Kind.ACK)
                elif segment.kind is Kind.PROBE:
                    child._send(Kind.ACK)

    def _child(self, pair: SocketPair, syn: Segment) -> MemorySocket:
        child = MemorySocket(self.network, pair.local, pair.local_port, State.ESTABLISHED, pair)
        if syn.key_id is not None:
            child._keys = [key.copy() for key in reversed(self._keys) if pair.remote in key.peer]
            child._protected = True
            first = child._keys[0] if child._keys else None
            child._current = child._inherited(pair, send_id=syn.rnext_key_id) or first
            child._rnext = child._inherited(pair, recv_id=syn.key_id) or first
        self._accept_queue.append(child)
        return child

    def _inherited(
        self, pair: SocketPair, send_id: int | None = None, recv_id: int | None = None
    ) -> StoredKey | None:
        for key in self._keys:
            if pair.remote in key.peer and (key.send_id == send_id or key.recv_id == recv_id):
                return key
        return None

    # --- small things -----------------------------------------------------------------------

    def is_bound_for(self, pair: SocketPair) -> bool:
        """True if a segment to `pair.local` would reach this listener."""
        return self.hears_address(pair.local) and self.local_port == pair.local_port

    def hears_address(self, local: IPAddress) -> bool:
        """True if it is bound to this address, or to all of its family."""
        return self.local == local or (self._is_wildcard() and self.local.version == local.version)

    def _is_wildcard(self) -> bool:
        return not any(self.local.packed)

    def _die(self) -> None:
        self.state = State.DEAD
        self.due = None
        self._probing = False
        self._unacknowledged.clear()

    def _stored(self, peer: IPNetwork, send_id: int, recv_id: int) -> StoredKey:
        for key in self._keys:
            if (key.peer, key.send_id, key.recv_id) == (peer, send_id, recv_id):
                return key
        raise InstallError(Cause.GONE, f'no key has SendID {send_id} and RecvID {recv_id}')
