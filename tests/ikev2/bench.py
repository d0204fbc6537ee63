"""Two endpoints in memory, a clock that jumps, and a network that does what a test says.

Nothing waits and nothing is random but key pairs: a run with the same seed has the same SPIs,
nonces, losses and retransmissions.
"""

from __future__ import annotations

import random as pseudo
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from ipaddress import ip_address
from itertools import chain, count
from typing import TypeVar

from ikev2.authentication.auth import LocalCredential, PeerCredential, PresharedKey
from ikev2.authentication.identity import Identity
from ikev2.constants import ExchangeType
from ikev2.endpoint import Endpoint
from ikev2.errors import PeerError
from ikev2.events import (
    Cause,
    Datagram,
    Event,
    IkeMessage,
    KeysDeleted,
    RpSaKeys,
    RpSaPrepared,
    RpSaRequest,
    RpSaRequested,
    Selector,
)
from ikev2.limits import Limits
from ikev2.peer import Peer
from ikev2.sa.exchange import Exchange
from ikev2.sa.ike_sa import IkeSa
from ikev2.sa.transitions import State
from ikev2.wire.message import Header, Message
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import NotifyPayload
from keymaterial import Secret

A_ADDRESS = ip_address('10.0.0.1')
B_ADDRESS = ip_address('10.0.0.2')
A_ID = Identity.parse('fqdn', 'a.example')
B_ID = Identity.parse('fqdn', 'b.example')
LATENCY = 0.01
SESSION_ID = bytes.fromhex('01000101') + b'bgp'

_E = TypeVar('_E')


def psk(text: str = 'a secret of both that is long enough') -> PresharedKey:
    """A pre-shared key."""
    return PresharedKey(Secret(text.encode()))


def peer_b(
    credential: LocalCredential | None = None,
    remote_credential: PeerCredential | None = None,
) -> Peer:
    """B as A configures it."""
    return Peer(
        name='b',
        local_id=A_ID,
        remote_id=B_ID,
        credential=credential or psk(),
        remote_credential=remote_credential or psk(),
        addresses=((A_ADDRESS, B_ADDRESS),),
    )


def peer_a(
    credential: LocalCredential | None = None,
    remote_credential: PeerCredential | None = None,
) -> Peer:
    """A as B configures it."""
    return Peer(
        name='a',
        local_id=B_ID,
        remote_id=A_ID,
        credential=credential or psk(),
        remote_credential=remote_credential or psk(),
        addresses=((B_ADDRESS, A_ADDRESS),),
    )


def rp_request(
    keyid: int = 1,
    *,
    port: int = 40001,
    rekey: int | None = None,
    suites: tuple[str, ...] = ('hmac-sha-1-96', 'aes-128-cmac-96'),
) -> RpSaRequest:
    """A request by A for its connection to B's BGP port."""
    return RpSaRequest(
        keyid=keyid,
        suites=suites,
        tcp_options=True,
        tsi=Selector(A_ADDRESS, port),
        tsr=Selector(B_ADDRESS, 179),
        session_id=None if rekey else SESSION_ID,
        lifetime=3600,
        rekey_keyid=rekey,
    )


@dataclass
class Node:
    """An endpoint, what it said, and a user that accepts whatever it is asked."""

    name: str
    endpoint: Endpoint
    events: list[Event] = field(default_factory=list)
    obliging: bool = True
    """Answers requests and Deletes at once; a test may want to do it itself."""
    accepted: list[RpSaKeys] = field(default_factory=list)
    next_keyid: int = 0x11
    mkts: bool = False
    suite: str | None = None

    def all(self, kind: type[_E]) -> list[_E]:
        """The events of one class so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def last(self, kind: type[_E]) -> _E:
        """The last event of one class; a failed assertion if there is none."""
        found = self.all(kind)
        assert found, f'{self.name} had no {kind.__name__}: {self.story()}'
        return found[-1]

    def story(self) -> list[Event]:
        """Return the events, without the messages."""
        return [event for event in self.events if not isinstance(event, IkeMessage)]

    def collect(self, now: float) -> None:
        """Take the endpoint's events, and serve those that want an answer."""
        while (event := self.endpoint.next_event()) is not None:
            self.events.append(event)
            if isinstance(event, RpSaRequested) and self.obliging:
                self.accept(event, now)
            if isinstance(event, RpSaPrepared) and self.obliging:
                self.accepted.append(event.keys)
                self.endpoint.answer(event.token, now)
            if isinstance(event, KeysDeleted) and self.obliging:
                self.endpoint.answer_delete(event.token, event.recv_ids, now)

    def accept(self, event: RpSaRequested, now: float) -> RpSaKeys | None:
        """Prepare and answer with the first suite on offer; the keys, unless they come later."""
        suite, options = event.offer.proposals[0]
        keyid, self.next_keyid = self.next_keyid, self.next_keyid % 255 + 1
        keys = self.endpoint.prepare(event.token, suite, options, keyid, 1800, now)
        if keys is not None:
            self.accepted.append(keys)
            self.endpoint.answer(event.token, now)
        return keys


Fate = Callable[[Datagram], list[float]]
"""When copies of a datagram arrive, seconds after it was sent; an empty list loses it."""


def deliver(datagram: Datagram) -> list[float]:
    """A network without faults."""
    return [LATENCY]


def turned(datagram: Datagram) -> Datagram:
    """Return the datagram as its receiver sees it."""
    return Datagram(
        datagram.data,
        datagram.remote,
        datagram.remote_port,
        datagram.local,
        datagram.local_port,
    )


class Bench:
    """Two nodes and a network between them."""

    def __init__(
        self,
        *,
        a: Peer | None = None,
        b: Peer | None = None,
        limits: Limits | None = None,
        seed: int = 1,
        key_logs: dict[str, list[str]] | None = None,
        node: type[Node] = Node,
    ) -> None:
        """`a` is B's view of A, `b` A's view of B; `key_logs` gets the keys that A and B log."""
        self.now = 1000.0
        self.wall = 1_800_000_000.0 - self.now
        """What the wall clock is ahead of `now`."""
        self.cpu = 0.0
        """CPU seconds that both nodes have used: nothing costs any, unless a test says so."""
        self.fate: Fate = deliver
        self.a_addresses = {local for local, _ in (b or peer_b()).addresses}
        self.wire: list[Datagram] = []
        """Everything that was ever sent."""
        self.nodes: dict[str, Node] = {}
        self.random = pseudo.Random(seed)
        self._limits = limits
        self._key_logs = key_logs
        self._node = node
        self._order = count()
        self._air: list[tuple[float, int, Datagram]] = []
        self.boot('a')
        self.boot('b')
        self.a.endpoint.set_peer(b or peer_b(), self.now)
        self.b.endpoint.set_peer(a or peer_a(), self.now)

    def boot(self, name: str) -> Node:
        """A node from nothing, in the place of the one with its name."""
        node = self._node(
            name,
            Endpoint(
                random=self.random.randbytes,
                has_mkts=lambda peer: self.nodes[name].mkts,
                limits=self._limits,
                wall_clock=lambda: self.wall + self.now,
                cpu=lambda: self.cpu,
                key_log=None if self._key_logs is None else self._key_logs[name].append,
            ),
        )
        self.nodes[name] = node
        return node

    @property
    def a(self) -> Node:
        """The node that now has this name."""
        return self.nodes['a']

    @property
    def b(self) -> Node:
        """The node that now has this name."""
        return self.nodes['b']

    # --- the network -------------------------------------------------------------------------

    def inject(self, datagram: Datagram) -> None:
        """Give a datagram, as it is sent, to the end that has its destination address."""
        target = self.a if datagram.remote in self.a_addresses else self.b
        target.endpoint.receive_datagram(turned(datagram), self.now)
        self.collect()

    def post(self, datagram: Datagram, delay: float) -> None:
        """Another host's datagram, on its way to the end that has its destination address."""
        heappush(self._air, (self.now + delay, next(self._order), datagram))

    def collect(self) -> None:
        """Take what the nodes said, and put what they sent on the wire."""
        for node in (self.a, self.b):
            node.collect(self.now)
            for datagram in node.endpoint.datagrams_to_send():
                self.wire.append(datagram)
                for delay in self.fate(datagram):
                    heappush(self._air, (self.now + delay, next(self._order), datagram))

    def step(self) -> bool:
        """Jump to whatever comes next; False if nothing ever will."""
        self.collect()
        times = [self._air[0][0]] if self._air else []
        times += [
            when for node in (self.a, self.b) if (when := node.endpoint.next_timer()) is not None
        ]
        if not times:
            return False
        self.now = max(self.now, min(times))
        while self._air and self._air[0][0] <= self.now:
            self.inject(heappop(self._air)[2])
        for node in (self.a, self.b):
            node.endpoint.handle_timer(self.now)
        self.collect()
        return True

    def run(self, seconds: float) -> None:
        """Let that much time pass."""
        end = self.now + seconds
        self.collect()
        while (when := self._next()) is not None and when <= end:
            self.step()
        self.now = end

    def settle(self) -> None:
        """Let a second pass: enough for any exchange on a network without faults."""
        self.run(1.0)

    def _next(self) -> float | None:
        times = [self._air[0][0]] if self._air else []
        for node in (self.a, self.b):
            when = node.endpoint.next_timer()
            if when is not None:
                times.append(when)
        return min(times, default=None)

    # --- shorthand ---------------------------------------------------------------------------

    def connect(self) -> None:
        """A makes an IKE SA with B."""
        self.a.endpoint.connect('b', self.now)
        self.settle()

    def negotiate(self, request: RpSaRequest | None = None) -> int:
        """A asks B for an RP SA."""
        number = self.a.endpoint.request('b', request or rp_request(), self.now)
        self.settle()
        return number

    def sent_by(self, node: Node) -> Iterator[Datagram]:
        """Return the datagrams that one node sent."""
        address = A_ADDRESS if node is self.a else B_ADDRESS
        return (datagram for datagram in self.wire if datagram.local == address)


def header_of(datagram: Datagram) -> Header:
    """A datagram's IKE header."""
    return Header.decode(datagram.data)


def is_kind(datagram: Datagram, kind: ExchangeType, *, response: bool) -> bool:
    """By its header."""
    header = header_of(datagram)
    return header.exchange_type == kind and header.response == response


def altered(datagram: Datagram, data: bytes) -> Datagram:
    """The same way with other octets."""
    return replace(datagram, data=data)


class Anything(Exchange):
    """A request with whatever payloads a test wants; keeps what became of it."""

    exchange_type = ExchangeType.INFORMATIONAL

    def __init__(self, kind: ExchangeType, payloads: Sequence[Payload]) -> None:
        self.exchange_type = kind  # type: ignore[misc]
        self.payloads = payloads
        self.answer: Message | None = None
        self.error: PeerError | None = None
        self.cause: Cause | None = None

    def request(self, sa: IkeSa, now: float) -> Sequence[Payload]:
        return self.payloads

    def answered(self, sa: IkeSa, message: Message, now: float) -> None:
        self.answer = message

    def broken(self, sa: IkeSa, error: PeerError, now: float) -> None:
        self.error = error

    def lost(self, cause: Cause, text: str, now: float) -> None:
        self.cause = cause

    def notifies(self) -> list[int]:
        """The notify types in the answer."""
        assert self.answer is not None, 'no answer'
        return [notify.notify_type for notify in self.answer.all(NotifyPayload)]


def sas_of(node: Node) -> list[IkeSa]:
    """A node's IKE SAs that aren't closed, the oldest first."""
    known = chain.from_iterable(node.endpoint._context.sas.values())
    return [sa for sa in known if sa.state != State.CLOSED]


def say(bench: Bench, node: Node, kind: ExchangeType, payloads: Sequence[Payload]) -> Anything:
    """Send a request of any content over a node's one IKE SA, and let it be answered."""
    (sa,) = sas_of(node)
    exchange = Anything(kind, payloads)
    sa.queue(exchange, bench.now)
    bench.settle()
    return exchange
