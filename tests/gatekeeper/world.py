"""Routers in memory with simulated time: the real core and IKEv2 endpoint, sockets that aren't.

A Router is a gatekeeper's core, an installer double, and the little of a BGP daemon that matters:
it binds, asks, connects, proves, accepts and closes. A World is the wire between them and the one
clock; nothing happens between two deadlines.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from typing import Any

from gatekeeper.engine.core import Core
from gatekeeper.policy.sessions import PadEntry, SessionId, SessionPolicy
from gatekeeper.state.connection import Connection
from gatekeeper.state.peer import Peer
from gatekeeper.state.store import PendingEvent
from gatekeeper.state.ticket import Ticket
from ikev2.authentication.auth import PresharedKey
from ikev2.authentication.identity import Identity
from ikev2.events import Datagram
from keymaterial import Secret
from tcpao.installer import (
    Abort,
    Close,
    Command,
    ConnectionGone,
    Guard,
    Install,
    Remove,
    Where,
)
from tcpao.mkt import ALGORITHMS, Mkt, SocketPair
from tests.doubles.memory_installer import MemoryInstaller, MemorySocket, Network
from tests.doubles.memory_network import Kind
from tests.ikev2.bench import turned

R1, R2 = ip_address('10.0.0.1'), ip_address('10.0.0.2')
FAMILIES = {'ipv4 unicast': (1, 1), 'ipv6 unicast': (2, 1)}
PORTS = {'ipv4 unicast': 40001, 'ipv6 unicast': 40002}
DELAY = 0.005
"""Seconds that a datagram takes."""


def policies(
    router: str, *, psk: bytes = b'not the real secret, long enough', **changes: Any
) -> list[SessionPolicy]:
    """Both sessions of r1 (which connects) or r2 (which listens)."""
    connects = router == 'r1'
    names = ('r1', 'r2') if connects else ('r2', 'r1')
    pad = PadEntry(
        local_id=Identity.parse('fqdn', f'{names[0]}.lab'),
        peer_id=Identity.parse('fqdn', f'{names[1]}.lab'),
        local_credential=PresharedKey(Secret(psk)),
        peer_credential=PresharedKey(Secret(psk)),
    )
    made = []
    for name, family in FAMILIES.items():
        policy = SessionPolicy(
            key=f'{router} {name}',
            neighbor=str(R2 if connects else R1),
            session=SessionId('bgp', name, (family,)),
            local=R1 if connects else R2,
            remote=R2 if connects else R1,
            connect_port=179 if connects else None,
            listen_port=None if connects else 179,
            pad=pad,
            source_port=PORTS[name] if connects else None,
            peer_port=None if connects else PORTS[name],
        )
        made.append(replace(policy, **changes))
    return made


def pair_of(name: str) -> SocketPair:
    """The session's socket pair as r1 sees it."""
    return SocketPair(R1, PORTS[name], R2, 179)


@dataclass(eq=False)
class World:
    """The clock, the network and the UDP path between routers."""

    seed: int = 1
    now: float = 1000.0
    network: Network = field(default_factory=Network)
    lose: Callable[[Datagram], bool] = lambda _: False
    """Asked for every IKE datagram."""
    copies: Callable[[Datagram], tuple[float, ...]] = lambda _: (DELAY,)
    """Delays with which a datagram is delivered: two for a duplicate."""

    def __post_init__(self) -> None:
        self.routers: list[Router] = []
        self.flying: list[tuple[float, int, Datagram]] = []
        self.postponed: list[tuple[float, Callable[[], None]]] = []
        self.datagrams = 0
        self.random = random.Random(self.seed)

    def router(self, name: str, wanted: list[SessionPolicy], *, listens: bool) -> Router:
        """A new router; its IKE starts at once."""
        router = Router(self, name, wanted, listens=listens)
        self.routers.append(router)
        router.pump()
        return router

    def after(self, delay: float, action: Callable[[], None]) -> None:
        """Have this done later; what is put off first is done first."""
        self.postponed.append((self.now + delay, action))

    def send(self, datagram: Datagram) -> None:
        """Put a datagram on the wire."""
        self.datagrams += 1
        if not self.lose(datagram):
            for delay in self.copies(datagram):
                self.flying.append((self.now + delay, self.datagrams, datagram))

    def next_deadline(self) -> float | None:
        """The earliest thing that will happen."""
        deadlines = [router.core.next_timer() for router in self.routers]
        deadlines.append(self.network.next_deadline())
        deadlines += [when for when, _, _ in self.flying]
        deadlines += [when for when, _ in self.postponed]
        return min((when for when in deadlines if when is not None), default=None)

    def run(self, seconds: float) -> None:
        """Let this much time pass."""
        end = self.now + seconds
        self.settle()
        for _ in range(1_000_000):
            when = self.next_deadline()
            if when is None or when > end:
                self.now = end
                self.network.advance(end)
                return
            self.now = max(self.now, when)
            self.network.advance(self.now)
            arriving = sorted(item for item in self.flying if item[0] <= self.now)
            self.flying = [item for item in self.flying if item[0] > self.now]
            for _, _, datagram in arriving:
                for router in list(self.routers):
                    if router.hears(datagram):
                        router.core.receive_datagram(turned(datagram), self.now)
            ripe = [action for when, action in self.postponed if when <= self.now]
            self.postponed = [item for item in self.postponed if item[0] > self.now]
            for action in ripe:
                action()
            for router in list(self.routers):
                router.core.handle_timer(self.now)
            self.settle()
        raise AssertionError('the world never comes to rest')

    def suspend(self, seconds: float) -> None:
        """All hosts sleep, and with them their kernels: deadlines pass without any action."""
        self.now += seconds
        self.network.now = self.now
        for socket in self.network.sockets:
            if socket.due is not None:
                socket.due += seconds
        self.flying.clear()
        for router in list(self.routers):
            router.core.handle_timer(self.now)

    def settle(self) -> None:
        """Let every router do what it can do now; one's segments are another's work."""
        busy = True
        while busy:
            busy = False
            for router in list(self.routers):
                busy |= router.pump()


class Router:
    """A daemon with a gatekeeper. Listeners belong to the gatekeeper's thread, which is always
    there; connections to the daemon's, which may be `busy`, and tells things `late`."""

    def __init__(
        self, world: World, name: str, wanted: list[SessionPolicy], *, listens: bool
    ) -> None:
        self.world = world
        self.name = name
        self.address = wanted[0].local
        self.core = Core(
            random=world.random.randbytes,
            ike_ports=(500, 4500),
            algorithms=frozenset(n for n, a in ALGORITHMS.items() if a.linux_name),
            backend='memory',
        )
        self.installer = MemoryInstaller(world.network)
        self.notes: list[PendingEvent] = []
        self.keyed: list[Mkt] = []
        self.sockets: dict[SocketPair, MemorySocket] = {}
        self.connecting: dict[SocketPair, tuple[str, Ticket]] = {}
        self.proving: dict[SocketPair, Ticket] = {}
        self.sessions: dict[str, SocketPair] = {}
        """Session key to the pair that BGP was given."""
        self.errors: list[str] = []
        self.closed: list[tuple[SocketPair, str]] = []
        self.busy = False
        """The daemon's thread does something else: its commands wait."""
        self.late = 0.0
        """Seconds until the gatekeeper is told of what has happened in the daemon's thread."""
        self._waiting: list[Command] = []
        self._told = 0.0
        """When the last thing is or was told: nothing overtakes."""
        self.listener: MemorySocket | None = None
        if listens:
            self.installer.submit(Guard(ip_network(wanted[0].remote), 179))
            self.listener = world.network.listen(self.address, 179)
            self.installer.add_listener(self.listener)
        self.core.configure(wanted, world.now)

    def hears(self, datagram: Datagram) -> bool:
        return datagram.remote == self.address and datagram.remote_port in (500, 4500)

    # --- the daemon -----------------------------------------------------------------------------

    def open(self, session_key: str, pair: SocketPair) -> Ticket:
        """Bind, hand over, ask."""
        socket = self.world.network.socket(pair)
        self.sockets[pair] = socket
        self.installer.add_connection(pair, socket)
        ticket = Ticket(lambda: self.core.cancel(pair, ticket, self.world.now))
        self.connecting[pair] = (session_key, ticket)
        self._tell(lambda: self.core.open(session_key, pair, ticket, self.world.now))
        self.pump()
        return ticket

    def close(self, pair: SocketPair, *, silently: bool = False) -> None:
        """Close a socket and say so, as the daemon does for every socket."""
        socket = self.sockets.pop(pair, None)
        self.connecting.pop(pair, None)
        self.proving.pop(pair, None)
        for key, mine in list(self.sessions.items()):
            if mine == pair:
                del self.sessions[key]
        self.installer.drop_connection(pair)
        if socket is not None:
            socket.vanish() if silently else socket.close()
        self._tell(lambda: self.core.handle(ConnectionGone(pair), self.world.now))

    def _tell(self, call: Callable[[], None]) -> None:
        """From the daemon's thread to the gatekeeper's, in order."""
        when = max(self.world.now + self.late, self._told)
        self._told = when
        if when <= self.world.now:
            call()
            return

        def tell() -> None:
            if self in self.world.routers:
                call()

        self.world.after(when - self.world.now, tell)

    def release(self) -> None:
        """Carry out what `installer.hold` kept back."""
        self.installer.release()
        for event in self.installer.events():
            self._tell(lambda event=event: self.core.handle(event, self.world.now))  # type: ignore[misc]
        self.pump()

    def kill(self) -> None:
        """kill -9: sockets abort (SO_LINGER {1, 0}), nothing else is said."""
        self.world.routers.remove(self)
        for socket in self.sockets.values():
            socket.close()
        if self.listener is not None:
            self.listener.vanish()

    def pump(self) -> bool:
        """Carry out everything that can happen now; True if there was anything."""
        rounds = 0
        while self._commands() | self._daemon():
            rounds += 1
            assert rounds < 10_000, 'the router never comes to rest'
        for datagram in self.core.datagrams_to_send():
            self.world.send(datagram)
        self.notes += self.core.take_notes()
        self.keyed += [mkt for _, _, mkt in self.core.take_keyed()]
        return rounds > 0

    def _commands(self) -> bool:
        listeners: list[Command] = []
        for command in self.core.take_commands():
            here = isinstance(command, Install | Remove) and command.where is Where.LISTENER
            (listeners if here else self._waiting).append(command)
        for command in listeners:
            self._submit(command)
        if self.busy:
            return bool(listeners)
        waiting, self._waiting = self._waiting, []
        for command in waiting:
            self._obey(command)
        return bool(listeners or waiting)

    def _submit(self, command: Command) -> None:
        self.installer.submit(command)
        for event in self.installer.events():
            self.core.handle(event, self.world.now)

    def _obey(self, command: Command) -> None:
        if isinstance(command, Close | Abort):
            if isinstance(command, Abort):
                self.installer.submit(command)
            if command.pair in self.sockets:
                self.closed.append((command.pair, command.cause))
                self.close(command.pair)
        else:
            self.installer.submit(command)
        for event in self.installer.events():
            self._tell(lambda event=event: self.core.handle(event, self.world.now))  # type: ignore[misc]

    def _daemon(self) -> bool:
        if self.busy:
            return False
        busy = False
        for pair, (_, ticket) in list(self.connecting.items()):
            socket = self.sockets[pair]
            if ticket.done and ticket.error is not None:
                self.errors.append(str(ticket.error))
                self.close(pair)
                busy = True
            elif ticket.done and socket.is_fresh():
                socket.connect()
                busy = True
            elif ticket.done and socket.is_established():
                del self.connecting[pair]
                self._prove(pair)
                busy = True
            elif ticket.done and socket.is_dead():
                self.close(pair)
                busy = True
        while self.listener is not None and (child := self.listener.accept()) is not None:
            assert child.pair is not None
            if child.pair in self.sockets:
                self.close(child.pair)
            self.sockets[child.pair] = child
            self.installer.add_connection(child.pair, child)
            self._prove(child.pair)
            busy = True
        for pair, ticket in list(self.proving.items()):
            if not ticket.done:
                continue
            busy = True
            del self.proving[pair]
            if ticket.error is not None:
                self.errors.append(str(ticket.error))
                if pair in self.sockets:
                    self.close(pair)
            else:
                assert ticket.session_key is not None
                self.sessions[ticket.session_key] = pair
        for pair in list(self.sessions.values()):
            # TCP tells the daemon that the peer's RST came.
            if self.sockets[pair].is_dead():
                self.close(pair)
                busy = True
        return busy

    def _prove(self, pair: SocketPair) -> None:
        ticket = Ticket(lambda: None)
        self.proving[pair] = ticket
        self._tell(lambda: self.core.prove(pair, ticket, self.world.now))

    # --- what tests look at ---------------------------------------------------------------------

    def connection(self, session: str) -> Connection:
        """The gatekeeper's view of a session's connection."""
        pair = self.sessions[f'{self.name} {session}']
        return self.core.state.connections[pair]

    def socket(self, session: str) -> MemorySocket:
        """The session's socket."""
        return self.sockets[self.sessions[f'{self.name} {session}']]

    def keys_on(self, session: str) -> list[tuple[int, int]]:
        """(SendID, RecvID) of the keys on the session's socket."""
        state = self.socket(session).read()
        return [(key.send_id, key.recv_id) for key in state.keys] if state else []

    @property
    def peer(self) -> Peer:
        """The gatekeeper's view of its only peer."""
        (peer,) = self.core.state.peers.values()
        return peer

    def listener_keys(self) -> int:
        """Keys on the listener, the deny key not counted."""
        assert self.listener is not None
        state = self.listener.read()
        return sum(key.send_id != 0 for key in state.keys) if state else 0

    def noted(self, name: str) -> list[PendingEvent]:
        """Events of this name."""
        return [note for note in self.notes if note.event == name]


def two_routers(world: World, **changes: Any) -> tuple[Router, Router]:
    """r2 listens, r1 will connect; both sessions' sockets are asked for."""
    r2 = world.router('r2', policies('r2', **changes), listens=True)
    r1 = world.router('r1', policies('r1', **changes), listens=False)
    return r1, r2


def open_both(r1: Router) -> None:
    """r1 asks for both sessions."""
    for name in FAMILIES:
        r1.open(f'r1 {name}', pair_of(name))


def up(**changes: Any) -> tuple[World, Router, Router]:
    """Both sessions, up."""
    world = World()
    r1, r2 = two_routers(world, **changes)
    open_both(r1)
    world.run(5)
    assert len(r1.sessions) == len(r2.sessions) == 2
    return world, r1, r2


def lose_rsts(world: World) -> None:
    """The end that closes sends nothing: as when a host loses its power."""
    world.network.deliver = lambda segment: segment.kind is not Kind.RST
