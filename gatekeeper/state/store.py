"""The gatekeeper's records (GKR) of all peers, connections and manual keys.

Data and look-ups, plus the few steps that all parts of the core share. Decisions are in `opening`,
`accepting`, `proving`, `rotation` and `ending`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from gatekeeper.errors import GateError
from gatekeeper.policy.sessions import SHORTEST_LIFETIME, SessionPolicy
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
from tcpao.mkt import ALGORITHMS, IPAddress, Mkt, SocketPair

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
    """All state that the core holds between two events."""

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
        """Names of algorithms that the backend supports: others are never offered."""
        self.backend = backend
        self._adapter_names = names
        self.deadlines = Deadlines()
        self.exchanges: dict[int, tuple[Connection, MktRecord]] = {}
        """Our requests under way."""
        self.policies: dict[str, SessionPolicy] = {}
        self.sessions_of: dict[str, list[SessionPolicy]] = {}
        """The policies by PAD entry: a request of one peer must not cost more with the number of
        other peers."""
        self.peers: dict[str, Peer] = {}
        self.connections: dict[SocketPair, Connection] = {}
        self.strays: Counter[SocketPair] = Counter()
        """Sockets of the daemon without a connection here: their `gone` is still to come."""
        self.errors: dict[str, Explanation] = {}
        """By session key: the failure that explains most, for `show`."""
        self.notifications: dict[str, str] = {}
        """By session key: the NOTIFICATION that ended its last connection."""
        self.commands: list[Command] = []
        self.notes: list[PendingEvent] = []
        self.keyed: list[tuple[SessionPolicy, bool, Mkt]] = []
        """MKTs just made (and whether we open the connection), for a key table on request."""
        self.forewarned: dict[tuple[str, float], ExpiryStage] = {}
        """By object and end: the stage at which operators were warned."""
        self.keys_on_listeners: dict[ListenerKeyId, ListenerKey] = {}
        self.withheld: dict[Selection, Withheld] = {}
        """Sessions that an operator gives no keys, until the operator takes that back."""
        self.unknown_sources: dict[IPAddress, float] = {}
        """When IKE from an unknown address was last reported."""
        self.wall_offset = 0.0
        """Seconds since the epoch less this clock's: keychains use UTC."""
        self._names = count(1)

    def wall(self, now: float) -> float:
        """Return seconds since the epoch, by this host's clock."""
        return now + self.wall_offset

    def next_name(self) -> int:
        """Return a number for an AdminKeyName, unique in this process."""
        return next(self._names)

    def fraction(self) -> float:
        """Return a random number in [0, 1)."""
        return int.from_bytes(self.random(2), 'big') / 65536

    def command(self, command: Command) -> None:
        """Queue a command for the adapter."""
        self.commands.append(command)

    def note(self, policy: SessionPolicy | None, event: EventName, **details: object) -> None:
        """Queue an event for operators; details are formatted here and never hold a secret."""
        plain: Details = {
            name: value if isinstance(value, str | int | float | bool | None) else str(value)
            for name, value in details.items()
        }
        session = policy.session.name if policy is not None else None
        if policy is not None:
            plain.setdefault('neighbor', policy.neighbor)
        self.notes.append(PendingEvent(session, event, plain))

    def note_installed(self, conn: Connection, life: MktRecord) -> None:
        """Queue the event that a key is installed."""
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
        """Return a hint in the words of the adapter."""
        return self._adapter_names.fill(hint)

    def refuse(self, policy: SessionPolicy, step: str, cause: str, reason: Reason) -> GateError:
        """Keep and report why a session has no protected connection; return the error."""
        why = self.fail(policy, Explanation.of(reason, step, cause))
        return GateError(
            f'neighbor {policy.neighbor} session {policy.session.name}: {why}; {why.hint}'
        )

    def fail(self, policy: SessionPolicy, why: Explanation) -> Explanation:
        """Keep and report a failure, whose hint may be the adapter's; return it as reported."""
        why = self._adapter_names.explain(why)
        self.errors[policy.key] = weightier(self.errors.get(policy.key), why)
        self.note(policy, EventName.REFUSED, **_told(why))
        return why

    def warn(self, conn: Connection, why: Explanation) -> None:
        """Keep and report an obstacle to the next key; the session goes on."""
        why = self._adapter_names.explain(why)
        conn.trouble = weightier(conn.trouble, why)
        self.note(conn.policy, EventName.REFUSED, **_told(why))

    def refuse_peer(self, peer: Peer, trouble: Explanation, **details: object) -> None:
        """Keep and report a failure that concerns all sessions with this peer."""
        trouble = self._adapter_names.explain(trouble)
        peer.trouble = weightier(peer.trouble, trouble)
        self.tell_peer(peer, trouble, **details)

    def tell_peer(self, peer: Peer, trouble: Explanation, **details: object) -> None:
        """Report a fact that concerns all sessions with this peer, and ends none of them."""
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
        """Keep and report the fault of a peer's request.

        Sessions that are up get no error by it.
        """
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
        """Begin the record of an MKT whose SendID is already taken."""
        name = f'{policy.session.service}/{policy.session.name}/{self.next_name()}'
        life = MktRecord(name, peer.pad.name, policy.key, pair, send_id, initiator)
        peer.mkts.append(life)
        return life

    def give_key(
        self, conn: Connection, life: MktRecord, keys: RpSaKeys, sent_lifetime: int, now: float
    ) -> None:
        """Give a record its key: from here on the MKT exists, with its hard lifetime."""
        life.recv_id = keys.recv_id
        theirs = sent_lifetime if keys.lifetime is None else keys.lifetime
        # Below our minimum, the peer's end has the shorter lifetime, and does the rekeying.
        life.lifetime = max(SHORTEST_LIFETIME, min(sent_lifetime, theirs))
        life.lowest_nonce = keys.lowest_nonce
        life.proof = keys.proof
        life.installed_at = now
        life.hard_at = now + life.lifetime
        life.mkt = Mkt(
            identity=life.name,
            protects=life.pair,
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
        """Return the connections that have, or request, an MKT negotiated with this peer.

        Found through its MKTs: a request of one peer must not cost more with the number of other
        peers.
        """
        found = (self.connections.get(life.pair) for life in peer.mkts)
        mine = (conn for conn in found if conn is not None and conn.ike_peer is peer)
        return list(dict.fromkeys(mine))

    def ask(self, conn: Connection, life: MktRecord, request: RpSaRequest, now: float) -> None:
        """Send a request for a new MKT or a successor."""
        life.exchange = self.endpoint.request(conn.peer.pad.name, request, now)
        self.exchanges[life.exchange] = (conn, life)

    def set_soft(self, conn: Connection, life: MktRecord) -> None:
        """Set when the successor is requested."""
        life.soft_at = life.installed_at + soft_lifetime(
            life.lifetime, self.fraction(), began_last=conn.began_last
        )

    def forget(self, peer: Peer) -> None:
        """Cancel the deadlines of a removed peer. Its connections end by themselves."""
        self.deadlines.cancel_all(peer)
        for life in peer.mkts:
            self.deadlines.cancel_all(life)

    # --- release of ids -------------------------------------------------------------------------

    def release(self, peer: Peer, life: MktRecord) -> None:
        """Free the ids of a record; a second call changes nothing."""
        self.deadlines.cancel(Due.IDS, life)
        if life in peer.mkts:
            peer.mkts.remove(life)
            peer.keyids.release(
                life.send_id, life.promised_recv_id if life.recv_id is None else life.recv_id
            )
        if life in peer.undeleted:
            peer.undeleted.remove(life)

    def release_at(self, peer: Peer | None, life: MktRecord, when: float) -> None:
        """Free its ids at `when`, or as soon after as its key is off the sockets."""
        if peer is None:
            # Manual keys keep their ids.
            return
        self.deadlines.set(Due.IDS, life, when)

    def release_late(self, peer: Peer | None, life: MktRecord, now: float) -> None:
        """Free its ids when the MKT must have ended at the peer, whatever the peer answers."""
        self.release_at(peer, life, max(now, life.installed_at) + 2.0 * life.lifetime)

    def release_if_over(self, peer: Peer | None, life: MktRecord) -> None:
        """Free its ids if its key is off the sockets and no message about it is in flight.

        The ids rest for its own socket pair: segments may be in flight there.
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
        """Take a free SendID for this socket pair, without messages in flight about it.

        Raises NoKeyIdError.
        """
        resting, _ = peer.keyids.resting(pair, now)
        flying = self.endpoint.send_ids_in_flight(peer.pad.name)
        return peer.keyids.take_send_id({*resting, *flying, *unwanted})

    def recv_ids_in_use(self, peer: Peer, pair: SocketPair, now: float) -> frozenset[int]:
        """Return the RecvIDs that are not free for this socket pair."""
        return peer.keyids.receiving | peer.keyids.resting(pair, now)[1]

    def why_withheld(self, policy: SessionPolicy) -> Withheld | None:
        """Return why an operator gives this session no keys; None if it may have some."""
        return next((why for one, why in self.withheld.items() if one.matches(policy)), None)

    def has_room(self, peer: Peer, policy: SessionPolicy) -> bool:
        """Return True if a connection of this session may begin with this peer.

        Connections that are closing don't count, nor does another connection of the same session:
        the last of so many sessions must come up again, even if the daemon has not closed its old
        connection yet.
        """
        others = (
            conn
            for conn in self.connections_with(peer)
            if conn.phase is not Phase.ENDING and conn.policy.key != policy.key
        )
        return sum(1 for _ in others) < MAX_CONNECTIONS

    def ids_due(self, life: MktRecord, now: float) -> None:
        """Free the ids of a record (Due.IDS), or try again later."""
        peer = self.peers.get(life.peer)
        if peer is not None and life.ended and not life.deleting:
            self.release(peer, life)
        elif peer is not None:
            self.release_at(peer, life, now + RETRY_REMOVE)

    def delete(self, peer: Peer | None, lives: list[MktRecord], now: float) -> None:
        """Send one DELETE for these; their ids stay taken for 60 s after the answer."""
        wanted = [
            life
            for life in lives
            if life.recv_id is not None and not life.deleting and not life.deleted_by_peer
        ]
        if peer is None or not wanted or self.peers.get(peer.pad.name) is not peer:
            # A removed peer's IKE SAs are deleted with everything under them, and manual keys have
            # no DELETE.
            return
        for life in wanted:
            life.deleting = True
            self.release_late(peer, life, now)
        exchange = self.endpoint.delete(peer.pad.name, tuple(life.send_id for life in wanted), now)
        peer.deletes[exchange] = wanted

    def delete_again(self, peer: Peer, now: float) -> None:
        """Repeat the DELETEs that were never answered."""
        undeleted, peer.undeleted = peer.undeleted, []
        self.delete(peer, undeleted, now)

    def deleted(self, peer: Peer, life: MktRecord, now: float) -> None:
        """Note that both ends know of the end of an MKT."""
        life.deleted_by_peer = True
        if life in peer.undeleted:
            peer.undeleted.remove(life)
        life.deleted_at = now
        self.release_late(peer, life, now)
        self.release_if_over(peer, life)
