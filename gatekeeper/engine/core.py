"""The gatekeeper's core: every event comes in here with `now`, and goes to its handler.

No I/O: the output is commands for the installer, datagrams for the peer, events for operators and
settled waiters. The tables at the end name the handlers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from gatekeeper.clock import LATE
from gatekeeper.engine import dropped_syns, ending, proving, rotation
from gatekeeper.engine import expiry_warnings as forewarning
from gatekeeper.engine import policy_change as reloading
from gatekeeper.engine.keychains import sessions as chains
from gatekeeper.engine.negotiated import accepting, ike_events, opening, operator, rekeying, volume
from gatekeeper.engine.negotiated import deletion as deleting
from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.reporting.adapter_names import AdapterNames
from gatekeeper.reporting.events import EventName
from gatekeeper.reporting.explanations import Explanation
from gatekeeper.state.connection import Connection, Phase, Waiter
from gatekeeper.state.deadlines import Due
from gatekeeper.state.limits import CLOCK_TOLERANCE
from gatekeeper.state.mkt_record import MktRecord, MktState
from gatekeeper.state.peer import Peer
from gatekeeper.state.selection import Operated, Operation, Selection
from gatekeeper.state.store import PendingEvent, Store
from ikev2 import events as ike
from ikev2.endpoint import Endpoint
from ikev2.limits import KeyLog
from tcpao.installer import (
    AdapterDied,
    Command,
    ConnectionGone,
    ConnectionUp,
    Done,
    Event,
    Failed,
    Install,
    KeyState,
    Prune,
    Read,
    Remove,
    SetRNext,
    Where,
)
from tcpao.mkt import Mkt, PeerPairs, SocketPair
from tcpao.refusal import DroppedSyn, Reason


class Core:
    """The gatekeeper without its sockets and thread, which are in `gatekeeper.service`."""

    def __init__(
        self,
        *,
        random: Callable[[int], bytes],
        ike_ports: tuple[int, int],
        algorithms: frozenset[str],
        backend: str,
        ike_key_log: KeyLog | None = None,
        names: AdapterNames | None = None,
    ) -> None:
        self.endpoint = Endpoint(
            random=random,
            local_ports=ike_ports,
            has_mkts=self._has_mkts,
            key_log=ike_key_log,
        )
        self.state = Store(self.endpoint, random, algorithms, backend, names or AdapterNames())

    def _has_mkts(self, peer: str) -> bool:
        found = self.state.peers.get(peer)
        return found is not None and any(not life.ended and life.mkt for life in found.mkts)

    # --- output ---------------------------------------------------------------------------------

    def take_commands(self) -> list[Command]:
        """Return the commands for the installer, oldest first."""
        taken, self.state.commands = self.state.commands, []
        return taken

    def take_notes(self) -> list[PendingEvent]:
        """Return the events for operators."""
        taken, self.state.notes = self.state.notes, []
        return taken

    def take_keyed(self) -> list[tuple[SessionPolicy, bool, Mkt]]:
        """Return MKTs made since the last call, and whether we open their connection."""
        taken, self.state.keyed = self.state.keyed, []
        return taken

    def datagrams_to_send(self) -> list[ike.Datagram]:
        """Return the UDP datagrams to send, oldest first."""
        return self.endpoint.datagrams_to_send()

    def next_timer(self) -> float | None:
        """Return when `handle_timer` must be called next; None if never."""
        deadlines = (self.state.deadlines.next(), self.endpoint.next_timer())
        return min((when for when in deadlines if when is not None), default=None)

    # --- input ----------------------------------------------------------------------------------

    def configure(self, policies: Sequence[SessionPolicy], now: float) -> None:
        """Put the whole new set of sessions in force. Raises PolicyError; unchanged then."""
        reloading.configure(self.state, policies, now)
        forewarning.begin(self.state, now)
        ike_events.drain(self.state, now)

    def set_clock(self, wall: float, now: float) -> None:
        """Set the time to `wall` seconds since the epoch at `now`, for keychains and
        certificates.
        """
        if abs(wall - self.state.wall(now)) >= CLOCK_TOLERANCE:
            self.state.wall_offset = wall - now
            self.endpoint.clock_was_set(now)
            chains.renew(self.state, chains.CHAINS, now)
            forewarning.look(self.state, forewarning.ENDS, now)
            ike_events.drain(self.state, now)

    def open(self, session_key: str, pair: SocketPair, waiter: Waiter, now: float) -> None:
        """Request a key as the active side: a socket for `pair` is bound and closed."""
        policy = opening.admitted(self.state, session_key, pair, waiter, now)
        if policy is not None:
            side = opening if policy.keychain is None else chains
            side.open_connection(self.state, policy, pair, waiter, now)
        ike_events.drain(self.state, now)

    def operate(self, operation: Operation, selection: Selection, now: float) -> Operated:
        """Do an operator's operation on these sessions.

        Raises GatekeeperError if no session is selected.
        """
        done = operator.operate(self.state, operation, selection, now)
        self.handle_timer(now)
        return done

    def cancel(self, pair: SocketPair, waiter: Waiter, now: float) -> None:
        """Cancel a request that no caller waits for any more."""
        opening.cancelled(self.state, pair, waiter, now)
        ike_events.drain(self.state, now)

    def prove(self, pair: SocketPair, waiter: Waiter, now: float) -> None:
        """Prove a connection: TCP is established on `pair`, and nothing has been sent."""
        proving.prove(self.state, pair, waiter, now)
        ike_events.drain(self.state, now)

    def receive_datagram(self, datagram: ike.Datagram, now: float) -> None:
        """Receive a UDP datagram."""
        self.endpoint.receive_datagram(datagram, now)
        ike_events.drain(self.state, now)

    def syn_dropped(self, refusal: DroppedSyn, now: float) -> None:
        """Note that the backend has dropped a SYN or its answer, or reset a connection that
        bypassed it.
        """
        if refusal.reason is Reason.BYPASSED:
            proving.end_bypassed(self.state, refusal.pair, now)
            ike_events.drain(self.state, now)
        else:
            dropped_syns.syn_dropped(self.state, refusal, now)

    def send_failed(self, failure: ike.SendFailure, now: float) -> None:
        """Note that the kernel, or a router on the way, has refused a datagram."""
        ike_events.send_failed(self.state, failure, now)

    def attempt_failed(self, session_key: str, why: Explanation) -> None:
        """Note that the routing protocol could not open a connection, for a reason of its own."""
        policy = self.state.policies.get(session_key)
        if policy is not None:
            self.state.fail(policy, why)

    def session_ended(self, session_key: str, notification: str) -> None:
        """Note that the routing protocol has ended a session, with this text."""
        if session_key in self.state.policies:
            self.state.notifications[session_key] = notification

    def handle_timer(self, now: float) -> None:
        """Run the deadlines that are due."""
        earliest = self.state.deadlines.next()
        if earliest is not None and now - earliest > LATE:
            ending.abort_expired(self.state, now)
        self.endpoint.handle_timer(now)
        ike_events.drain(self.state, now)
        while (due := self.state.deadlines.pop(now)) is not None:
            DUE[due[0]](self.state, due[1], now)
            ike_events.drain(self.state, now)

    def stop(self, now: float) -> None:
        """Send shutdown notifications to the peers; the daemon ends keys on sockets."""
        self.endpoint.close(now)

    def part(self, datagrams: Iterable[ike.Datagram], now: float) -> bool:
        """Receive answers after `stop`; return True while a peer's window still delays a Delete."""
        for datagram in datagrams:
            self.endpoint.receive_datagram(datagram, now)
        self.endpoint.handle_timer(now)
        return self.endpoint.is_parting()

    def handle(self, event: Event, now: float) -> None:
        """Handle an event of the installer, or of the daemon about its connections."""
        state = self.state
        match event:
            case Done(Install(mkt, where)):
                self._installed(mkt, where, now)
            case Failed(Install(mkt, where)):
                self._not_installed(event, mkt, where, now)
            case Done(SetRNext(mkt)):
                self._rnext_moved(mkt)
            case Done(Remove(mkt, where)):
                self._removed(mkt, where)
            case Failed(Remove(mkt, Where.CONNECTION)):
                found = self._find(mkt)
                if found is not None:
                    rotation.not_removed(state, *found, event, now)
            case Failed(Remove(mkt, Where.LISTENER)):
                accepting.not_removed(state, mkt, event, now)
            case Failed(Read(pair)):
                self._not_proven(pair, f'the socket is not readable: {event.text}', now)
            case Failed(Prune(mkt)):
                self._not_proven(mkt.pair, f'pruning its keys: {event.text}', now)
            case KeyState(pair=pair):
                self._read(pair, event, now)
            case ConnectionGone(pair):
                self._gone(pair, now)
            case AdapterDied(cause):
                for conn in list(state.connections.values()):
                    ending.abort(state, conn, cause, now)
            case Done() | Failed() | ConnectionUp():
                # A failed Probe, SetRNext or Abort means that the socket is gone:
                # ConnectionGone reports it, or the next Read shows it.
                pass
        ike_events.drain(self.state, now)

    # --- the installer's answers ----------------------------------------------------------------

    def _find(self, mkt: Mkt) -> tuple[Connection, MktRecord] | None:
        conn = self.state.connections.get(mkt.pair)
        if conn is None:
            return None
        named = (life for life in conn.mkts() if life.name == mkt.identity)
        return next(((conn, life) for life in named), None)

    def _installed(self, mkt: Mkt, where: Where, now: float) -> None:
        if isinstance(mkt.protects, PeerPairs):
            chains.posted(self.state, mkt)
            return
        found = self._find(mkt)
        if found is None:
            return
        conn, life = found
        if conn.phase is Phase.ENDING:
            life.move(MktState.INSTALLED)
        elif where is Where.LISTENER:
            accepting.installed(self.state, conn, now)
        elif life is conn.mkt_in_use:
            opening.installed(self.state, conn, now)
        else:
            conn.keys.installed(life, now)

    def _not_installed(self, event: Failed, mkt: Mkt, where: Where, now: float) -> None:
        if isinstance(mkt.protects, PeerPairs):
            chains.not_posted(self.state, event, mkt, now)
            return
        found = self._find(mkt)
        if found is None or found[0].phase is Phase.ENDING:
            return
        conn, life = found
        if where is Where.LISTENER:
            accepting.not_installed(self.state, conn, event, now)
        elif life is conn.mkt_in_use or conn.phase is Phase.NEGOTIATING:
            opening.not_installed(self.state, conn, event, now)
        else:
            conn.keys.not_installed(life, event, now)

    def _removed(self, mkt: Mkt, where: Where) -> None:
        if isinstance(mkt.protects, PeerPairs):
            mkt.master_key.wipe()
            return
        found = self._find(mkt)
        if where is Where.CONNECTION and found is not None:
            rotation.removed(self.state, *found)

    def _read(self, pair: SocketPair, seen: KeyState, now: float) -> None:
        conn = self.state.connections.get(pair)
        if conn is None:
            return
        if conn.phase is Phase.WAITING:
            dropped_syns.read_answers(self.state, conn, seen)
        elif conn.phase is Phase.PROVING:
            proving.read(self.state, conn, seen, now)
        elif conn.phase is Phase.PROVEN:
            volume.read(self.state, conn, seen, now)
            rekeying.read(self.state, conn, seen, now)
            if conn.rotation is not None and conn.phase is Phase.PROVEN:
                rotation.read(self.state, conn, seen, now)

    def _rnext_moved(self, mkt: Mkt) -> None:
        conn = self.state.connections.get(mkt.pair)
        if conn is not None:
            ids = {'recv_id': mkt.recv_id, 'send_id': mkt.send_id}
            self.state.note(conn.policy, EventName.RNEXT_MOVED, **ids)

    def _not_proven(self, pair: SocketPair, cause: str, now: float) -> None:
        conn = self.state.connections.get(pair)
        if conn is not None and conn.phase is Phase.PROVING:
            proving.refuse(self.state, conn, cause, now)

    def _gone(self, pair: SocketPair, now: float) -> None:
        conn = self.state.connections.get(pair)
        ending.gone(self.state, pair, now)
        if conn is not None and conn.replacement is not None:
            if conn.replacement.peer in self.state.peers:
                event, conn.replacement = conn.replacement, None
                accepting.requested(self.state, event, now)
            else:
                ending.refuse_replacement(self.state, conn, now)


def _retry_ike(state: Store, peer: Peer, now: float) -> None:
    state.endpoint.connect(peer.pad.name, now)
    if peer.up:
        # Another IKE SA than the one under which a DELETE was lost.
        state.delete_again(peer, now)


def _check_liveness(state: Store, life: MktRecord, now: float) -> None:
    state.endpoint.check_liveness(life.peer, now)


def _sync(state: Store, conn: Connection, now: float) -> None:
    conn.keys.sync(now)


def _syn_never_came(state: Store, conn: Connection, now: float) -> None:
    dropped_syns.syn_never_came(state, conn)
    ending.drop(state, conn, now)


def _look(state: Store, conn: Connection, now: float) -> None:
    state.command(Read(conn.pair))


DUE: dict[Due, Callable[..., None]] = {
    Due.GATE: opening.too_late,
    Due.ASK_AGAIN: opening.ask_again,
    Due.SYN: _syn_never_came,
    Due.SYN_ANSWER: dropped_syns.look_for_answers,
    Due.PROOF: proving.too_late,
    Due.REKEY: rekeying.ask,
    Due.VOLUME: volume.look,
    Due.UNANSWERED: rekeying.unanswered,
    Due.READ: _look,
    Due.GRACE: rotation.grace_over,
    Due.DOUBT: _look,
    Due.DELETED: deleting.not_closed,
    Due.REPLACED: accepting.not_closed,
    Due.CEASE: rotation.cease,
    Due.HARD: rotation.expired,
    Due.SYNC: _sync,
    Due.LISTENER: accepting.remove,
    Due.LIVENESS: _check_liveness,
    Due.RETIRE: rotation.retire,
    Due.IDS: Store.ids_due,
    Due.IKE: _retry_ike,
    Due.CHAINS: chains.renew,
    Due.FOREWARN: forewarning.look,
}
"""The handler of each deadline: (state, subject, now)."""
