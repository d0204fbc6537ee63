"""A probe in memory: against a bare endpoint that answers at once, or as a part of a World."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from gatekeeper.tools.probe.probe import Limited, Probe
from gatekeeper.tools.probe.transcript import Result, Step
from ikev2.authentication.auth import PresharedKey
from ikev2.authentication.identity import Identity
from ikev2.endpoint import Endpoint
from ikev2.events import Datagram, Event, RpSaRequest, Selector
from ikev2.limits import Limits
from ikev2.peer import Peer
from ikev2.wire.message import Header
from keymaterial import Secret
from tests.gatekeeper.world import R1, R2, World
from tests.ikev2.bench import turned
from tests.ikev2.pki import AT

PORTS = (50001, 50002)
TIMEOUT = 10.0
PSK = b'8f2c1d7e90ab43655d1f77c20e9b84aa13c6f0d2'
OTHER_PSK = b'0f1e2d3c4b5a69788796a5b4c3d2e1f0aabbccdd'


def psk(octets: bytes = PSK) -> PresharedKey:
    return PresharedKey(Secret(octets))


def near(**changes: object) -> Peer:
    """The peer as the probe has it."""
    peer = Peer(
        name='peer',
        local_id=Identity.parse('fqdn', 'r1.lab'),
        remote_id=Identity.parse('fqdn', 'r2.lab'),
        credential=psk(),
        remote_credential=psk(),
        addresses=((R1, R2),),
    )
    return replace(peer, **changes)  # type: ignore[arg-type]


def far(**changes: object) -> Peer:
    """Us as the peer has us."""
    ours = near()
    peer = replace(
        ours,
        name='probed by',
        local_id=ours.remote_id,
        remote_id=ours.local_id,
        addresses=((R2, R1),),
    )
    return replace(peer, **changes)  # type: ignore[arg-type]


def a_request(port: int = 47000, **changes: object) -> RpSaRequest:
    request = RpSaRequest(
        keyid=1,
        suites=('hmac-sha-1-96',),
        tcp_options=True,
        tsi=Selector(R1, port),
        tsr=Selector(R2, 179),
        session_id=bytes.fromhex('01000101') + b'bgp',
        lifetime=3600,
    )
    return replace(request, **changes)  # type: ignore[arg-type]


def a_probe(
    peer: Peer,
    request: RpSaRequest | None = None,
    *,
    random: Callable[[int], bytes],
    policy: str = 'default',
) -> Probe:
    return Probe(
        peer,
        request,
        Limited(TIMEOUT, PORTS),
        policy=policy,
        random=random,
        wall_clock=lambda: AT,
    )


@dataclass
class Told:
    """The report of a probe."""

    probe: Probe
    steps: list[Step] = field(default_factory=list)

    def collect(self) -> None:
        self.steps += self.probe.take_steps()

    @property
    def failure(self) -> Step:
        """The one step that failed."""
        (step,) = [step for step in self.steps if step.result is Result.FAILED]
        return step

    def text(self) -> str:
        return '\n'.join(f'{s.exchange} {s.result} {s.text} {s.advice}' for s in self.steps)


class Against(Told):
    """A probe of a bare endpoint; the network takes no time, and does what a test says."""

    def __init__(
        self,
        probe: Probe,
        peer: Peer | None,
        *,
        limits: Limits | None = None,
        answer: Callable[[Endpoint, Event, float], None] = lambda endpoint, event, now: None,
        deliver: Callable[[Datagram], Datagram | None] = lambda datagram: datagram,
        random: Callable[[int], bytes],
    ) -> None:
        super().__init__(probe)
        self.now = 1000.0
        self.endpoint = Endpoint(
            random=random, has_mkts=lambda _: False, limits=limits, wall_clock=lambda: AT
        )
        if peer is not None:
            self.endpoint.set_peer(peer, self.now)
        self.answer = answer
        self.deliver = deliver
        self.events: list[Event] = []
        self.sent: list[Datagram] = []
        """By the probe."""

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """To the probe's end, or to a point on the way."""
        self.probe.start(self.now)
        self.go_on(until)

    def go_on(self, until: Callable[[], bool] = lambda: False) -> None:
        for _ in range(10_000):
            while self._exchange():
                if until():
                    return
            self.collect()
            if self.probe.done:
                return
            timers = (self.probe.next_timer(), self.endpoint.next_timer())
            self.now = max(self.now, min(when for when in timers if when is not None))
            self.probe.handle_timer(self.now)
            self.endpoint.handle_timer(self.now)
        raise AssertionError('the probe never ends')

    def _exchange(self) -> bool:
        datagrams = self.probe.datagrams_to_send()
        self.sent += datagrams
        for datagram in datagrams:
            self._carry(datagram, self.endpoint.receive_datagram)
        while (event := self.endpoint.next_event()) is not None:
            self.events.append(event)
            self.answer(self.endpoint, event, self.now)
        answers = self.endpoint.datagrams_to_send()
        for datagram in answers:
            self._carry(datagram, self.probe.receive_datagram)
        return bool(datagrams or answers)

    def _carry(self, datagram: Datagram, to: Callable[[Datagram, float], None]) -> None:
        arriving = self.deliver(datagram)
        if arriving is not None:
            to(turned(arriving), self.now)


class Beside(Told):
    """A probe in a World, from the address of a router that runs there; stands among the routers.

    `held` keeps it from doing anything, as a slow host does.
    """

    name = 'probe'

    def __init__(self, world: World, probe: Probe) -> None:
        super().__init__(probe)
        self.world = world
        self.held = False
        self.core = self
        self._late: list[Datagram] = []
        world.routers.append(self)  # type: ignore[arg-type]
        probe.start(world.now)

    def hears(self, datagram: Datagram) -> bool:
        return datagram.remote == ip_address('10.0.0.1') and datagram.remote_port in PORTS

    def receive_datagram(self, datagram: Datagram, now: float) -> None:
        if self.held:
            self._late.append(datagram)
        else:
            self.probe.receive_datagram(datagram, now)

    def next_timer(self) -> float | None:
        return None if self.held else self.probe.next_timer()

    def handle_timer(self, now: float) -> None:
        if not self.held:
            self.probe.handle_timer(now)

    def go_on(self) -> None:
        """No longer held."""
        self.held = False
        late, self._late = self._late, []
        for datagram in late:
            self.probe.receive_datagram(datagram, self.world.now)

    def pump(self) -> bool:
        if self.held:
            return False
        self.collect()
        datagrams = self.probe.datagrams_to_send()
        for datagram in datagrams:
            self.world.send(datagram)
        return bool(datagrams)


def exchange_of(datagram: Datagram) -> int:
    """By its header."""
    return Header.decode(datagram.data).exchange_type
