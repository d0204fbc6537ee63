"""A probe: IKE with one peer, a TCP-AO key for one connection on request, and the deletion of both.

No I/O: datagrams, `now` and randomness come in, datagrams and steps go out. The probe may use the
identity of a router that is running. So nothing here disturbs that router's sessions with the peer:
no INITIAL_CONTACT is sent (RFC 7296, 2.4); requests of the peer over this IKE SA are postponed or
left to the next IKE SA, never answered in that router's name; only KeyIDs that the peer has just
accepted from us are deleted; the IKE SA exists no longer than its exchanges take.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from gatekeeper.state.limits import LISTENER_HOLDS
from gatekeeper.tools.probe.advice import CHILD, Circumstances
from gatekeeper.tools.probe.transcript import Result, Step, Story
from ikev2.constants import ExchangeType, NotifyType
from ikev2.endpoint import Endpoint
from ikev2.events import (
    Datagram,
    DeleteAnswered,
    Event,
    IkeMessage,
    IkeSaDown,
    IkeSaFailed,
    IkeSaUp,
    RpSaFailed,
    RpSaNegotiated,
    RpSaRequest,
    RpSaRequested,
)
from ikev2.limits import KeyLog, Limits
from ikev2.peer import Peer

REFUSAL_WAIT = 2.0
"""Seconds: a refusal of IKE_SA_INIT may be forged (RFC 7296, 2.21.1), but a person waits."""
KEYID_TRIES = 3
_INFORMATIONAL = ExchangeType.INFORMATIONAL.name


class Phase(StrEnum):
    """The phase of a probe."""

    IKE = 'making an IKE SA'
    ASKING = 'asking for a key'
    DELETING = 'deleting the key'
    LEAVING = 'deleting the IKE SA'
    DONE = 'done'


@dataclass(frozen=True, slots=True)
class Limited:
    """The time-out and the ports of a probe."""

    timeout: float
    """Seconds after which an exchange without an answer has failed."""
    local_ports: tuple[int, int]


class Probe:
    """One attempt. `proven` is valid once it is `done`."""

    def __init__(
        self,
        peer: Peer,
        request: RpSaRequest | None,
        limited: Limited,
        *,
        policy: str,
        random: Callable[[int], bytes],
        wall_clock: Callable[[], float],
        key_log: KeyLog | None = None,
    ) -> None:
        """Prepare a probe; `request` is for the key and gets its KeyID here.

        `policy` is the name of `peer`'s policy.
        """
        self.phase = Phase.IKE
        self.proven = False
        self._peer = peer
        self._request = request
        self._limited = limited
        self._random = random
        self._steps: list[Step] = []
        self._last: Step | None = None
        local, remote = peer.addresses[0]
        self._story = Story(
            Circumstances(
                str(local),
                str(remote),
                peer.remote_port,
                peer.remote_natt_port,
                str(peer.local_id),
                str(peer.remote_id),
                policy,
            )
        )
        self._endpoint = Endpoint(
            random=random,
            local_ports=limited.local_ports,
            # Never INITIAL_CONTACT: the peer would end all its SAs with this identity.
            has_mkts=lambda _: True,
            limits=Limits(
                give_up=limited.timeout,
                unproven_refusal=min(REFUSAL_WAIT, limited.timeout),
                # Nothing is repeated once the IKE SA is deleted, so the last timer is the end.
                linger=0.0,
            ),
            wall_clock=wall_clock,
            key_log=key_log,
        )
        self._exchange: int | None = None
        self._tries = 0
        self._failed = False
        self._up = False
        self._ending = False
        """True if there is an IKE SA to delete."""
        self._nat = False
        self._leave_by = 0.0

    # --- input ---------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Send the first message."""
        self._endpoint.set_peer(self._peer, now)
        local, remote = self._peer.addresses[0]
        here, there = self._limited.local_ports[0], self._peer.remote_port
        self._tell('probe', Result.INFO, f'{local} UDP port {here} to {remote} UDP port {there}')
        if self._request is not None:
            self._tell(
                'probe',
                Result.INFO,
                'the peer keeps one pending key for each session: if the router with our identity '
                'is just opening this one, it may have to try again',
            )
        self._endpoint.connect(self._peer.name, now)
        self._drain(now)

    def receive_datagram(self, datagram: Datagram, now: float) -> None:
        """Receive a datagram."""
        self._endpoint.receive_datagram(datagram, now)
        self._drain(now)

    def handle_timer(self, now: float) -> None:
        """Run the timers that are due."""
        self._endpoint.handle_timer(now)
        self._drain(now)

    def unreachable(self, text: str) -> None:
        """Note an ICMP error for a datagram to the peer's IKE port."""
        if not self._story.unreachable and self._story.profile is None:
            self._story.unreachable = text
            self._tell('probe', Result.WARNING, f'ICMP says: {text}; it may be forged, going on')

    def unsendable(self, text: str) -> None:
        """Note that this host did not send a datagram."""
        if self._story.unsendable != text:
            self._story.unsendable = text
            self._tell('probe', Result.WARNING, f'this host could not send: {text}')

    def stop(self, now: float) -> None:
        """Stop the probe at the user's request: leave nothing at the peer."""
        if self.phase in (Phase.LEAVING, Phase.DONE):
            return
        self._fail(Step('probe', Result.FAILED, f'interrupted while {self.phase}'))
        if self.phase is Phase.ASKING and self._exchange is not None:
            # Ends in RpSaFailed, after its DELETE.
            self._endpoint.cancel(self._peer.name, self._exchange, now)
        elif self.phase is Phase.IKE:
            self._leave(now)
        self._drain(now)

    # --- output --------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Return True if there is nothing left to do."""
        return self.phase is Phase.DONE

    def next_timer(self) -> float | None:
        """Return when to call `handle_timer`; None if there is no timer."""
        return self._endpoint.next_timer()

    def datagrams_to_send(self) -> list[Datagram]:
        """Return the datagrams to send now."""
        datagrams = self._endpoint.datagrams_to_send()
        natt = self._limited.local_ports[1]
        if not self._nat and any(datagram.local_port == natt for datagram in datagrams):
            self._nat = True
            self._tell(
                'probe',
                Result.WARNING,
                f'there is a NAT on the path: going on over UDP port {self._peer.remote_natt_port}',
            )
        return datagrams

    def take_steps(self) -> list[Step]:
        """Return the steps since the last call."""
        steps, self._steps = self._steps, []
        return steps

    # --- events ------------------------------------------------------------------------------

    def _drain(self, now: float) -> None:
        while (event := self._endpoint.next_event()) is not None:
            self._take(event, now)
        if self.phase is Phase.LEAVING and self._endpoint.next_timer() is None:
            self._left(now)

    def _take(self, event: Event, now: float) -> None:
        match event:
            case IkeMessage():
                step = self._story.message(event, ppk=self._peer.ppk is not None)
                if step != self._last:
                    # A refusal comes once for each repetition of the refused request.
                    self._steps.append(step)
                self._last = step
            case IkeSaUp():
                self._came_up(event, now)
            case IkeSaFailed(step=step, cause=cause, text=text):
                counters = self._endpoint.snapshot().peer(self._peer.name).counters
                garbled = counters.malformed + counters.not_authentic
                requests = 1 + counters.retransmitted
                self._fail(self._story.ike_failed(step, cause, text, requests, garbled))
                self._leave(now)
            case IkeSaDown(cause=cause):
                if self.phase in (Phase.ASKING, Phase.DELETING):
                    self._fail(self._story.ended(cause))
                    self._leave(now)
            case RpSaNegotiated():
                self._agreed(event, now)
            case RpSaFailed():
                self._refused(event, now)
            case DeleteAnswered(answered=answered):
                self._deleted(answered, now)
            case RpSaRequested(token=token):
                # The request is for the router that has this identity.
                self._endpoint.refuse(token, NotifyType.TEMPORARY_FAILURE, b'', now)
            case _:
                # A DELETE of its keys stays unanswered: the peer sends it again to the router
                # itself, over their own IKE SA, once this one has ended.
                pass

    def _came_up(self, event: IkeSaUp, now: float) -> None:
        if self._up or not event.initiator:
            return
        self._up = True
        self._tell(
            'IKE_AUTH',
            Result.OK,
            f'proven: the peer is {event.peer_id}',
            peer_id=event.peer_id,
            suite=event.suite,
            profile=event.profile,
            nat=event.nat,
            spis=event.spis,
        )
        if not event.profile:
            self._tell(
                'IKE_AUTH',
                Result.WARNING,
                'the peer sent no Vendor ID of this profile: no TCP-AO keys can be negotiated',
            )
        if self._request is None:
            self._leave(now)
        else:
            self._ask(self._request, (), now)

    def _ask(self, request: RpSaRequest, in_use: tuple[int, ...], now: float) -> None:
        """Request a key, with a KeyID that the peer does not have yet, as far as we know."""
        self.phase = Phase.ASKING
        self._tries += 1
        free = [keyid for keyid in range(1, 256) if keyid not in in_use]
        keyid = free[int.from_bytes(self._random(2), 'big') % len(free)]
        self._exchange = self._endpoint.request(self._peer.name, replace(request, keyid=keyid), now)

    def _agreed(self, event: RpSaNegotiated, now: float) -> None:
        keys = event.keys
        keys.master_key.wipe()
        options = 'included' if keys.tcp_options else 'excluded'
        self._tell(
            CHILD,
            Result.OK,
            f'a TCP-AO key was agreed on: {keys.suite}, tcp-options {options}, the peer keeps it '
            f'for {keys.lifetime} s; nothing is installed here',
            algorithm=keys.suite,
            tcp_options=keys.tcp_options,
            send_id=keys.send_id,
            recv_id=keys.recv_id,
        )
        self.phase = Phase.DELETING
        self._endpoint.delete(self._peer.name, [keys.send_id], now)

    def _refused(self, event: RpSaFailed, now: float) -> None:
        if self.phase is not Phase.ASKING:
            return
        if (
            event.notify == NotifyType.KEYID_IN_USE
            and self._tries < KEYID_TRIES
            and self._request is not None
            and not self._failed
            and len(set(event.data)) < 255
        ):
            self._ask(self._request, tuple(event.data), now)
            return
        if not self._failed:
            self._fail(self._story.rp_failed(event))
        self._leave(now)

    def _deleted(self, answered: bool, now: float) -> None:
        if self.phase is not Phase.DELETING:
            return
        if answered:
            self._tell(_INFORMATIONAL, Result.OK, 'the key is deleted again at the peer')
        else:
            self._fail(
                Step(
                    _INFORMATIONAL,
                    Result.FAILED,
                    'the peer did not answer the DELETE for the key',
                    f'nothing has to be done: it leaves the listener {LISTENER_HOLDS:.0f} s after '
                    f'it came',
                )
            )
        self._leave(now)

    # --- the end -----------------------------------------------------------------------------

    def _leave(self, now: float) -> None:
        if self.phase in (Phase.LEAVING, Phase.DONE):
            return
        self.phase = Phase.LEAVING
        self._leave_by = now + self._limited.timeout
        self._ending = self._endpoint.snapshot().peer(self._peer.name).up
        if self._ending:
            self._tell(_INFORMATIONAL, Result.SENT, 'Delete for the IKE SA')
        self._endpoint.close(now)

    def _left(self, now: float) -> None:
        self.phase = Phase.DONE
        if self._ending and now < self._leave_by:
            self._tell(_INFORMATIONAL, Result.OK, 'the IKE SA is deleted')
        elif self._ending:
            self._tell(
                _INFORMATIONAL,
                Result.WARNING,
                'the peer did not answer the Delete; it will find out that the IKE SA is gone',
            )
        self.proven = self._up and not self._failed

    def _fail(self, step: Step) -> None:
        self._failed = True
        self._steps.append(step)

    def _tell(self, exchange: str, result: Result, text: str, **details: object) -> None:
        self._steps.append(Step(exchange, result, text, details=details))
