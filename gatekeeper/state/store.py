"""What the gatekeeper knows: its records (GKR) of all peers, connections and manual keys.

Data and look-ups, plus the few steps that every part of the core shares. Decisions are in
`opening`, `accepting`, `proving`, `rotation` and `ending`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from gatekeeper.errors import GateError
from gatekeeper.policy.sessions import SHORTEST_LIFETIME, IPAddress, SessionPolicy
from gatekeeper.reporting.adapter_names import AdapterNames
from gatekeeper.reporting.events import EventName
from gatekeeper.reporting.explanations import Explanation, weightier
from gatekeeper.reporting.reasons import Reason
from gatekeeper.state.connection import Phase
from gatekeeper.state.deadlines import Deadlines, Due
from gatekeeper.state.limits import MAX_CONNECTIONS, OLD_KEY_LINGERS, RETRY_REMOVE, soft_lifetime
from gatekeeper.state.mkt_record import MktRecord, MktState
from gatekeeper.state.selection import Selection, Withheld
from tcpao.installer import Command
from tcpao.mkt import ALGORITHMS, Mkt, SocketPair

if TYPE_CHECKING:
    from gatekeeper.policy.keychain import ChainKey
    from gatekeeper.reporting.expiry import ExpiryStage
    from gatekeeper.state.connection import Connection
    from gatekeeper.state.peer import Peer
    from ikev2.endpoint import Endpoint
    from ikev2.events import RpSaKeys, RpSaRequest

Details = dict[str, str | int | float | bool | None]


@dataclass(frozen=True, slots=True)
class PendingEvent:
    """An event for operators; the adapter adds time and router."""

    session: str | None
    event: EventName
    details: Details


ListenerKeyId = tuple[IPAddress, int, int, int]
"""Peer, service port, SendID and RecvID of a manual key on listening sockets."""


@dataclass(frozen=True, slots=True)
class ListenerKey:
    """A manual key on listening sockets."""

    policy: SessionPolicy
    """The first session that it is for."""
    key: ChainKey
    mkt: Mkt


def _told(why: Explanation) -> dict[str, object]:
    return {
        'step': why.step,
        'cause': why.cause,
        'hint': why.hint,
        'reason': why.reason.word,
    }


class Store:
    """Everything the core holds between two events."""

    def __init__(
        self,
        endpoint: Endpoint,
        random: Callable[[int], bytes],
        algorithms: frozenset[str],
        backend: str,
        names: AdapterNames,
    ) -> None:
        self.endpoint = endpoint
        self.random = random
        self.algorithms = algorithms
        """Names that the backend can do: never offer what this host can't."""
        self.backend = backend
        self._adapter_names = names
        self.deadlines = Deadlines()
        self.exchanges: dict[int, tuple[Connection, MktRecord]] = {}
        """Our requests under way."""
        self.policies: dict[str, SessionPolicy] = {}
        self.sessions_of: dict[str, list[SessionPolicy]] = {}
        """The same by PAD entry: what one peer asks for must not cost more for every other one."""
        self.peers: dict[str, Peer] = {}
        self.connections: dict[SocketPair, Connection] = {}
        self.strays: Counter[SocketPair] = Counter()
        """Sockets of the daemon's that no connection here stands for: their `gone` is to come."""
        self.errors: dict[str, Explanation] = {}
        """Per session key: the failure that explains most, for `show`."""
        self.notifications: dict[str, str] = {}
        """Per session key: with what the routing protocol ended its last connection."""
        self.commands: list[Command] = []
        self.notes: list[PendingEvent] = []
        self.keyed: list[tuple[SessionPolicy, bool, Mkt]] = []
        """MKTs just made (and whether we open the connection), for a key table on request."""
        self.forewarned: dict[tuple[str, float], ExpiryStage] = {}
        """Of what will end, and when: how near it was when operators were told."""
        self.keys_on_listeners: dict[ListenerKeyId, ListenerKey] = {}
        self.withheld: dict[Selection, Withheld] = {}
        """By an operator, until they are taken back: these sessions get no keys."""
        self.strangers: dict[IPAddress, float] = {}
        """When IKE from addresses of nobody was told last."""
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
        self.notes.append(PendingEvent(session, event, plain))

    def note_installed(self, conn: Connection, life: MktRecord) -> None:
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

    def fill(self, hint: str) -> str:
        """A hint in the words of the adapter."""
        return self._adapter_names.fill(hint)

    def refuse(self, policy: SessionPolicy, step: str, cause: str, reason: Reason) -> GateError:
        """Remember and tell why a session has no protected connection."""
        why = self.fail(policy, Explanation.of(reason, step, cause))
        return GateError(
            f'neighbor {policy.neighbor} session {policy.session.name}: {why}; {why.hint}'
        )

    def fail(self, policy: SessionPolicy, why: Explanation) -> Explanation:
        """As `refuse`, with a hint that may be the adapter's own; as it was told."""
        why = self._adapter_names.explain(why)
        self.errors[policy.key] = weightier(self.errors.get(policy.key), why)
        self.note(policy, EventName.REFUSED, **_told(why))
        return why

    def warn(self, conn: Connection, why: Explanation) -> None:
        """Remember and tell what stands in the way of the next key; the session goes on."""
        why = self._adapter_names.explain(why)
        conn.trouble = weightier(conn.trouble, why)
        self.note(conn.policy, EventName.REFUSED, **_told(why))

    def refuse_peer(self, peer: Peer, trouble: Explanation, **details: object) -> None:
        """Remember and tell what concerns all sessions with this peer."""
        trouble = self._adapter_names.explain(trouble)
        peer.trouble = weightier(peer.trouble, trouble)
        self.tell_peer(peer, trouble, **details)

    def tell_peer(self, peer: Peer, trouble: Explanation, **details: object) -> None:
        """Tell what concerns all sessions with this peer, and takes none of them down."""
        told = _told(trouble) | details
        told['peer_id'] = peer.pad.peer_id
        neighbors: dict[str, list[SessionPolicy]] = {}
        for policy in self.sessions_of.get(peer.pad.name, ()):
            neighbors.setdefault(policy.neighbor, []).append(policy)
        for neighbor, policies in neighbors.items():
            session = policies[0] if len(policies) == 1 else None
            self.note(session, EventName.REFUSED, **told, neighbor=neighbor)

    def refuse_request(
        self, peer: Peer, policy: SessionPolicy | None, trouble: Explanation, **details: object
    ) -> None:
        """Remember and tell what is wrong with a peer's request. What runs has no error by it."""
        if policy is None:
            self.refuse_peer(peer, trouble, **details)
            return
        trouble = self._adapter_names.explain(trouble)
        running = (conn for conn in self.connections_with(peer) if conn.phase is Phase.PROVEN)
        if not any(conn.policy.key == policy.key for conn in running):
            self.errors[policy.key] = weightier(self.errors.get(policy.key), trouble)
        told = _told(trouble) | details
        self.note(policy, EventName.REFUSED, **told, peer_id=peer.pad.peer_id)

    def new_life(
        self, policy: SessionPolicy, peer: Peer, pair: SocketPair, send_id: int, *, initiator: bool
    ) -> MktRecord:
        """Begin a life; its SendID is already taken."""
        name = f'{policy.session.service}/{policy.session.name}/{self.next_name()}'
        life = MktRecord(name, peer.pad.name, policy.key, pair, send_id, initiator)
        peer.mkts.append(life)
        return life

    def give_key(
        self, conn: Connection, life: MktRecord, keys: RpSaKeys, sent_lifetime: int, now: float
    ) -> None:
        """The exchange has made the key: from here the MKT exists, with its hard lifetime."""
        life.recv_id = keys.recv_id
        theirs = sent_lifetime if keys.lifetime is None else keys.lifetime
        # Below our floor the peer's end is the shorter one, and does the rekeying.
        life.lifetime = max(SHORTEST_LIFETIME, min(sent_lifetime, theirs))
        life.lowest_nonce = keys.lowest_nonce
        life.proof = keys.proof
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
        found = (self.connections.get(life.pair) for life in peer.mkts)
        mine = (conn for conn in found if conn is not None and conn.ike_peer is peer)
        return list(dict.fromkeys(mine))

    def ask(self, conn: Connection, life: MktRecord, request: RpSaRequest, now: float) -> None:
        """Send a request for a new MKT or a successor."""
        life.exchange = self.endpoint.request(conn.peer.pad.name, request, now)
        self.exchanges[life.exchange] = (conn, life)

    def set_soft(self, conn: Connection, life: MktRecord) -> None:
        """When the successor is asked for."""
        life.soft_at = life.installed_at + soft_lifetime(
            life.lifetime, self.fraction(), began_last=conn.began_last
        )

    def forget(self, peer: Peer) -> None:
        """A removed peer: none of its deadlines comes. Its connections end by themselves."""
        self.deadlines.cancel_all(peer)
        for life in peer.mkts:
            self.deadlines.cancel_all(life)

    # --- the end of ids ---------------------------------------------------------------------

    def release(self, peer: Peer, life: MktRecord) -> None:
        """Its ids are free again; idempotent."""
        self.deadlines.cancel(Due.IDS, life)
        if life in peer.mkts:
            peer.mkts.remove(life)
            peer.keyids.release(
                life.send_id, life.promised_recv_id if life.recv_id is None else life.recv_id
            )
        if life in peer.undeleted:
            peer.undeleted.remove(life)

    def release_at(self, peer: Peer | None, life: MktRecord, when: float) -> None:
        """Free its ids then, or as soon after as its key is off the sockets."""
        if peer is None:
            # Manual keys keep theirs.
            return
        self.deadlines.set(Due.IDS, life, when)

    def release_late(self, peer: Peer | None, life: MktRecord, now: float) -> None:
        """Free its ids when it has surely ended at the peer, whatever the peer says or doesn't."""
        self.release_at(peer, life, max(now, life.installed_at) + 2.0 * life.lifetime)

    def release_if_over(self, peer: Peer | None, life: MktRecord) -> None:
        """Free its ids if its key is off the sockets and nothing about it is in flight.

        They rest for its own socket pair: segments may be in flight there.
        """
        if peer is None or not life.ended or not life.deleted_by_peer or life.deleting:
            return
        if life in peer.mkts and life.recv_id is not None:
            until = life.deleted_at + OLD_KEY_LINGERS
            peer.keyids.rest(life.pair, life.send_id, life.recv_id, until)
        self.release(peer, life)

    def take_send_id(
        self, peer: Peer, pair: SocketPair, now: float, unwanted: Iterable[int] = ()
    ) -> int:
        """Take a free SendID for this socket pair, about which nothing is in flight.

        Raises NoKeyIdError.
        """
        resting, _ = peer.keyids.resting(pair, now)
        flying = self.endpoint.send_ids_in_flight(peer.pad.name)
        return peer.keyids.take_send_id({*resting, *flying, *unwanted})

    def recv_ids_in_use(self, peer: Peer, pair: SocketPair, now: float) -> frozenset[int]:
        """Return the RecvIDs that can't be had for this socket pair."""
        return peer.keyids.receiving | peer.keyids.resting(pair, now)[1]

    def why_withheld(self, policy: SessionPolicy) -> Withheld | None:
        """Return why an operator lets this session have no keys; None if it may have some."""
        return next((why for one, why in self.withheld.items() if one.matches(policy)), None)

    def has_room(self, peer: Peer, policy: SessionPolicy) -> bool:
        """Return True if a connection of this session may be begun with this peer.

        What is being closed takes no room, nor does another connection of the same session: the
        last of so many sessions must come up again, though the daemon has not let go of it yet.
        """
        others = (
            conn
            for conn in self.connections_with(peer)
            if conn.phase is not Phase.ENDING and conn.policy.key != policy.key
        )
        return sum(1 for _ in others) < MAX_CONNECTIONS

    def ids_due(self, life: MktRecord, now: float) -> None:
        """Due.IDS."""
        peer = self.peers.get(life.peer)
        if peer is not None and life.ended and not life.deleting:
            self.release(peer, life)
        elif peer is not None:
            self.release_at(peer, life, now + RETRY_REMOVE)

    def delete(self, peer: Peer | None, lives: list[MktRecord], now: float) -> None:
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
            self.release_late(peer, life, now)
        exchange = self.endpoint.delete(peer.pad.name, tuple(life.send_id for life in wanted), now)
        peer.deletes[exchange] = wanted

    def delete_again(self, peer: Peer, now: float) -> None:
        """Say the DELETEs that were never answered again."""
        undeleted, peer.undeleted = peer.undeleted, []
        self.delete(peer, undeleted, now)

    def deleted(self, peer: Peer, life: MktRecord, now: float) -> None:
        """Both ends know that it ends."""
        life.deleted_by_peer = True
        if life in peer.undeleted:
            peer.undeleted.remove(life)
        life.deleted_at = now
        self.release_late(peer, life, now)
        self.release_if_over(peer, life)
