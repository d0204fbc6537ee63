"""What the gatekeeper knows: its records (GKR), peers, connections and the lives of their MKTs.

Data and look-ups, plus the few steps that every part of the core shares. Decisions are in
`opening`, `accepting`, `proving`, `rotation` and `ending`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Protocol

from gatekeeper.deadlines import Deadlines, Due
from gatekeeper.keyids import KeyIds
from gatekeeper.life import Life, MktState
from gatekeeper.lifetimes import OLD_KEY_LINGERS, RETRY_REMOVE, soft_lifetime
from gatekeeper.policy import SHORTEST_LIFETIME, IPAddress, PadEntry, SessionPolicy
from gatekeeper.records import EventName
from gatekeeper.ticket import GateError
from tcpao.installer import Command, KeyCounters
from tcpao.mkt import ALGORITHMS, Mkt, SocketPair

if TYPE_CHECKING:
    from gatekeeper.keychain import ChainKey
    from gatekeeper.manual import ManualKeys
    from ikev2.endpoint import Endpoint
    from ikev2.events import Cause, RpSaKeys, RpSaRequest, RpSaRequested
    from ikev2.peer import Peer as IkePeer
    from ikev2.proof import Proof

Details = dict[str, str | int | float | bool | None]


class Waiter(Protocol):
    """Who waits for a connection to be granted: a Ticket."""

    def settle(self, session_key: str, mkt: Mkt) -> None: ...

    def fail(self, error: GateError) -> None: ...


@dataclass(frozen=True, slots=True)
class Note:
    """An event for operators; the adapter adds time and router."""

    session: str | None
    event: EventName
    details: Details


class Phase(StrEnum):
    """Where a protected connection is."""

    NEGOTIATING = 'negotiating'
    WAITING = 'installed, waiting for the SYN'
    PROVING = 'proving'
    PROVEN = 'in use'
    ENDING = 'ending'


@dataclass(slots=True, eq=False)
class Rotation:
    """A successor on its way into use on one connection."""

    new: Life
    answered_at: float
    reads: int = 0
    rnext_moved: bool = False
    rolling_back: bool = False
    old_good: int | None = None
    """While rolling back: good segments under the old MKT at the first look."""
    before: KeyCounters | None = None
    """What was counted under the successor before; a manual key may have been in use already."""
    heard: bool = False
    """The peer has sent good segments under the successor."""
    stalled: bool = False
    """The peer hasn't followed in time to a manual key, and is given all the time it wants."""
    old_deleted_at: float | None = None
    """When the DELETE of the old MKT was answered by us."""


@dataclass(slots=True, eq=False)
class Connection:
    """One socket pair: its MKT, the successor, what is retiring."""

    pair: SocketPair
    policy: SessionPolicy
    ike_peer: Peer | None
    """With whom its keys are negotiated; None where they are manual."""
    opener: bool
    life: Life
    """The MKT in use, or pending."""
    phase: Phase = Phase.NEGOTIATING
    waiter: Waiter | None = None
    pruned: bool = False
    """While proving: the keys of other sessions have been taken off."""
    attempts: int = 0
    """Refused requests of this opening."""
    keyids_refused: set[int] = field(default_factory=set)
    """SendIDs of the peer that we can't take as RecvIDs: the next request says so."""
    keyids_unwanted: frozenset[int] = frozenset()
    """SendIDs of ours that the peer can't take: the next request for a successor has another."""
    wanted: Life | None = None
    """A successor that we have asked for and that isn't answered yet."""
    offered: Life | None = None
    """A successor that the peer has asked for and that isn't in a rotation yet."""
    rotation: Rotation | None = None
    retiring: list[Life] = field(default_factory=list)
    began_last: bool = False
    rekey_failures: int = 0
    rekeys: int = 0
    doubt: int | None = None
    """After CHILD_SA_NOT_FOUND: good segments counted then; -1 until they have been read."""
    doubt_until: float = 0.0
    """What is read before says nothing about it."""
    manual: ManualKeys | None = None
    """Its keys, if they come from a keychain."""
    replacement: RpSaRequested | None = None
    """A request that waits for this connection to be closed."""
    since: float = 0.0

    @property
    def peer(self) -> Peer:
        """The peer of a connection whose keys are negotiated."""
        assert self.ike_peer is not None
        return self.ike_peer

    @property
    def has_socket(self) -> bool:
        """The daemon has a socket for it, and will tell when that is gone."""
        return self.opener or self.phase not in (Phase.NEGOTIATING, Phase.WAITING)

    def lives(self) -> list[Life]:
        """Every MKT on this connection that hasn't ended."""
        found = [self.life, self.wanted, self.offered, *self.retiring]
        if self.rotation is not None:
            found.append(self.rotation.new)
        if self.manual is not None:
            found += self.manual.lives()
        return [life for life in dict.fromkeys(found) if life is not None and not life.ended]


@dataclass(slots=True, eq=False)
class Peer:
    """A PAD entry and what is known of the peer."""

    pad: PadEntry
    ike: IkePeer
    """The same as IKE was given it."""
    keyids: KeyIds
    up: bool = False
    profile: bool = True
    nat: bool = False
    attempts: int = 0
    last_error: str | None = None
    last_cause: Cause | None = None
    """Of `last_error`: what to try next depends on it."""
    proof: Proof | None = None
    """What it proved itself with last."""
    proven_until: float | None = None
    """When that ends."""
    suite: str | None = None
    """Of its IKE SA, in words."""
    renew: bool = False
    """The PAD entry has changed: all MKTs are renegotiated once it has proven itself anew."""
    renew_before: float = -inf
    """MKTs from before are renegotiated."""
    lives: list[Life] = field(default_factory=list)
    """Every MKT whose ids are taken."""
    deletes: dict[int, list[Life]] = field(default_factory=dict)
    """DELETEs under way, by exchange."""
    undeleted: list[Life] = field(default_factory=list)
    """MKTs whose DELETE the peer never answered: said again under the next IKE SA."""

    def by_recv_id(self, recv_id: int) -> Life | None:
        """The life under the peer's SendID."""
        return next((life for life in self.lives if life.recv_id == recv_id), None)


Place = tuple[IPAddress, int, int, int]
"""Peer, service port, SendID and RecvID of a manual key on listening sockets."""


@dataclass(frozen=True, slots=True)
class Posted:
    """A manual key on listening sockets."""

    policy: SessionPolicy
    """The first session that it is for."""
    key: ChainKey
    mkt: Mkt


class State:
    """Everything the core holds between two events."""

    def __init__(
        self,
        endpoint: Endpoint,
        random: Callable[[int], bytes],
        algorithms: frozenset[str],
        backend: str,
    ) -> None:
        self.endpoint = endpoint
        self.random = random
        self.algorithms = algorithms
        """Names that the backend can do: never offer what this host can't."""
        self.backend = backend
        self.deadlines = Deadlines()
        self.exchanges: dict[int, tuple[Connection, Life]] = {}
        """Our requests under way."""
        self.policies: dict[str, SessionPolicy] = {}
        self.sessions_of: dict[str, list[SessionPolicy]] = {}
        """The same by PAD entry: what one peer asks for must not cost more for every other one."""
        self.peers: dict[str, Peer] = {}
        self.connections: dict[SocketPair, Connection] = {}
        self.strays: Counter[SocketPair] = Counter()
        """Sockets of the daemon's that no connection here stands for: their `gone` is to come."""
        self.errors: dict[str, str] = {}
        """Per session key: the last error, for `show`."""
        self.commands: list[Command] = []
        self.notes: list[Note] = []
        self.keyed: list[tuple[SessionPolicy, bool, Mkt]] = []
        """MKTs just made (and whether we open the connection), for a key table on request."""
        self.posted: dict[Place, Posted] = {}
        self.wall_offset = 0.0
        """Seconds since the epoch less this clock's: keychains go by UTC."""
        self._names = count(1)

    def wall(self, now: float) -> float:
        """Seconds since the epoch, as far as this host knows."""
        return now + self.wall_offset

    def next_name(self) -> int:
        """For an AdminKeyName that nobody else has."""
        return next(self._names)

    def fraction(self) -> float:
        """A random number in [0, 1)."""
        return int.from_bytes(self.random(2), 'big') / 65536

    def command(self, command: Command) -> None:
        """Have the adapter carry this out."""
        self.commands.append(command)

    def note(self, policy: SessionPolicy | None, event: EventName, **details: object) -> None:
        """Tell operators; details are formatted here and never hold a secret."""
        plain: Details = {
            name: value if isinstance(value, str | int | float | bool | None) else str(value)
            for name, value in details.items()
        }
        session = policy.session.name if policy is not None else None
        if policy is not None:
            plain.setdefault('neighbor', policy.neighbor)
        self.notes.append(Note(session, event, plain))

    def note_installed(self, conn: Connection, life: Life) -> None:
        """Tell operators that a key is in place."""
        self.note(
            conn.policy,
            EventName.MKT_INSTALLED,
            send_id=life.send_id,
            recv_id=life.recv_id,
            algorithm=life.key.algorithm.name,
            backend=self.backend,
            pair=life.pair,
        )

    def refuse(self, policy: SessionPolicy, step: str, cause: str, hint: str) -> GateError:
        """Remember and tell why a session has no protected connection."""
        self.errors[policy.key] = f'{step}: {cause}'
        self.note(policy, EventName.REFUSED, step=step, cause=cause, hint=hint)
        return GateError(
            f'neighbor {policy.neighbor} session {policy.session.name}: {step}: {cause}; {hint}'
        )

    def new_life(
        self, policy: SessionPolicy, peer: Peer, pair: SocketPair, send_id: int, *, initiator: bool
    ) -> Life:
        """Begin a life; its SendID is already taken."""
        name = f'{policy.session.service}/{policy.session.name}/{self.next_name()}'
        life = Life(name, peer.pad.name, policy.key, pair, send_id, initiator)
        peer.lives.append(life)
        return life

    def give_key(
        self, conn: Connection, life: Life, keys: RpSaKeys, sent_lifetime: int, now: float
    ) -> None:
        """The exchange has made the key: from here the MKT exists, with its hard lifetime."""
        life.recv_id = keys.recv_id
        theirs = sent_lifetime if keys.lifetime is None else keys.lifetime
        # Below our floor the peer's end is the shorter one, and does the rekeying.
        life.lifetime = max(SHORTEST_LIFETIME, min(sent_lifetime, theirs))
        life.lowest_nonce = keys.lowest_nonce
        life.installed_at = now
        life.hard_at = now + life.lifetime
        life.mkt = Mkt(
            identity=life.name,
            pair=life.pair,
            algorithm=ALGORITHMS[keys.suite],
            tcp_options=keys.tcp_options,
            send_id=life.send_id,
            recv_id=keys.recv_id,
            master_key=keys.master_key,
            not_after=life.hard_at,
        )
        life.move(MktState.NEGOTIATING)
        self.keyed.append((conn.policy, conn.opener, life.mkt))
        self.note(
            conn.policy,
            EventName.CHILD_SA,
            send_id=life.send_id,
            recv_id=life.recv_id,
            algorithm=keys.suite,
            lifetime=life.lifetime,
            initiator=life.initiator,
            pair=life.pair,
        )

    def connections_with(self, peer: Peer) -> list[Connection]:
        """Those that have an MKT, or ask for one, negotiated with this peer.

        Found through its MKTs: a request of one peer must not cost more for every other one.
        """
        found = (self.connections.get(life.pair) for life in peer.lives)
        mine = (conn for conn in found if conn is not None and conn.ike_peer is peer)
        return list(dict.fromkeys(mine))

    def ask(self, conn: Connection, life: Life, request: RpSaRequest, now: float) -> None:
        """Send a request for a new MKT or a successor."""
        life.exchange = self.endpoint.request(conn.peer.pad.name, request, now)
        self.exchanges[life.exchange] = (conn, life)

    def set_soft(self, conn: Connection, life: Life) -> None:
        """When the successor is asked for."""
        life.soft_at = life.installed_at + soft_lifetime(
            life.lifetime, self.fraction(), began_last=conn.began_last
        )

    def forget(self, peer: Peer) -> None:
        """A removed peer: none of its deadlines comes. Its connections end by themselves."""
        self.deadlines.cancel_all(peer)
        for life in peer.lives:
            self.deadlines.cancel_all(life)

    # --- the end of ids ---------------------------------------------------------------------

    def release(self, peer: Peer, life: Life) -> None:
        """Its ids are free again; idempotent."""
        self.deadlines.cancel(Due.IDS, life)
        if life in peer.lives:
            peer.lives.remove(life)
            peer.keyids.release(
                life.send_id, life.promised if life.recv_id is None else life.recv_id
            )
        if life in peer.undeleted:
            peer.undeleted.remove(life)

    def release_at(self, peer: Peer | None, life: Life, when: float) -> None:
        """Free its ids then, or as soon after as its key is off the sockets."""
        if peer is None:
            # Manual keys keep theirs.
            return
        self.deadlines.set(Due.IDS, life, when)

    def ids_due(self, life: Life, now: float) -> None:
        """Due.IDS."""
        peer = self.peers.get(life.peer)
        if peer is not None and life.ended and not life.deleting:
            self.release(peer, life)
        elif peer is not None:
            self.release_at(peer, life, now + RETRY_REMOVE)

    def delete(self, peer: Peer | None, lives: list[Life], now: float) -> None:
        """Send one DELETE for these; ids stay taken until it was answered and 60 s are over."""
        wanted = [
            life
            for life in lives
            if life.recv_id is not None and not life.deleting and not life.deleted_by_peer
        ]
        if peer is None or not wanted or self.peers.get(peer.pad.name) is not peer:
            # A removed peer's IKE SAs are deleted with everything under them, and manual keys
            # have no DELETE.
            return
        for life in wanted:
            life.deleting = True
            self.release_at(peer, life, max(now, life.installed_at) + 2.0 * life.lifetime)
        exchange = self.endpoint.delete(peer.pad.name, tuple(life.send_id for life in wanted), now)
        peer.deletes[exchange] = wanted

    def delete_again(self, peer: Peer, now: float) -> None:
        """Say the DELETEs that were never answered again."""
        undeleted, peer.undeleted = peer.undeleted, []
        self.delete(peer, undeleted, now)

    def deleted(self, peer: Peer, life: Life, now: float) -> None:
        """Both ends know that it ends."""
        life.deleted_by_peer = True
        if life in peer.undeleted:
            peer.undeleted.remove(life)
        self.release_at(peer, life, now + OLD_KEY_LINGERS)
