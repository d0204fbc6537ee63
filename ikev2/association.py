"""The association with one peer: its IKE SAs, and the requests that wait for one.

Decides when an IKE SA is begun, which one carries a request, and which of two is closed. The
messages are made elsewhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ikev2.constants import NotifyType
from ikev2.context import Context, Counters, Path
from ikev2.errors import AuthenticationFailed
from ikev2.events import (
    Cause,
    Event,
    IkeMessage,
    IkeSaDistrusted,
    IkeSaDown,
    IkeSaFailed,
    IkeSaUp,
    InitialContact,
    IPAddress,
)
from ikev2.exchanges.ike_init_initiator import Attempt
from ikev2.exchanges.ike_rekey import schedule_rekey
from ikev2.exchanges.informational import DeleteIkeSa, DeleteKeys, Liveness, UndoKeys
from ikev2.exchanges.reauth import (
    delete_superseded,
    schedule_reauthentication,
)
from ikev2.peer import Peer
from ikev2.rate import Rate
from ikev2.redundancy import RedundantSas, watch
from ikev2.sa.exchange import Exchange, Job
from ikev2.sa.ike_sa import IkeSa
from ikev2.sa.transitions import USABLE, Happening, State
from ikev2.unproven_work import UnprovenWork
from ikev2.wire.payload import Payload

if TYPE_CHECKING:
    from ikev2.authentication.proof import Proof

_WORTH_TELLING = frozenset(
    {Cause.AUTHENTICATION_FAILED, Cause.UNKNOWN_IDENTITY, Cause.MALFORMED, Cause.REFUSED}
)


class Association:
    """The state that an endpoint holds for one peer."""

    def __init__(self, peer: Peer, context: Context) -> None:
        self.peer = peer
        self.context = context
        self.counters = Counters()
        self.attempt: Attempt | None = None
        self.sas: list[IkeSa] = []
        """All IKE SAs that are not closed."""
        self.jobs: deque[Job] = deque()
        self.undoing: dict[int, UndoKeys] = {}
        """By KeyID: MKTs of failed requests that the peer may still have."""
        limits = context.limits
        self.child_requests = Rate(limits.child_requests, limits.child_requests_within)
        self.unprotected_errors = Rate(limits.unprotected_errors_per_second, 1.0)
        self._unproven_told = Rate(limits.unproven_told_per_second, 1.0)
        self._failures_told = Rate(limits.unproven_told_per_second, 1.0)
        self.auth_repetitions = Rate(limits.auth_repetitions_per_second, 1.0)
        self.unproven_work = UnprovenWork(context, self.sas)
        self._pair = 0
        self._hints = Rate(1, limits.hint_interval)
        self._repeats = Rate(1, limits.repeat_interval)
        self._nat_looks = Rate(1, limits.reauthentication_retry)
        self.stopped = False
        """True once the peer was removed; only Deletes are still under way."""
        self.redundant = RedundantSas(context, lambda: self.usable)

    def tell(self, event: Event) -> None:
        """Emit an event, unless the peer was removed."""
        if not self.stopped:
            self.context.emit(event)

    def tell_message(
        self,
        kind: int,
        payloads: Sequence[Payload],
        now: float,
        *,
        sent: bool,
        response: bool,
        proven: bool,
    ) -> None:
        """Report a message, sent or received, to the operator.

        While the peer is not `proven`, the rate is limited: anyone can make us receive and answer.
        """
        if proven or self._unproven_told.allow(now):
            self.tell(IkeMessage(self.peer.name, kind, sent, response, tuple(payloads)))

    # --- which IKE SA ------------------------------------------------------------------------

    @property
    def usable(self) -> list[IkeSa]:
        """Return the IKE SAs that our requests may use."""
        return [sa for sa in self.sas if sa.state in USABLE]

    def best(self) -> IkeSa | None:
        """Return the IKE SA for the next request: the one that received from the peer last."""
        return max(
            self.usable, key=lambda sa: (sa.last_received_at, sa.origin.lowest_nonce), default=None
        )

    @property
    def address_pair(self) -> tuple[IPAddress, IPAddress]:
        """Return local and remote address for the next attempt: another pair after each failure."""
        return self.peer.addresses[self._pair % len(self.peer.addresses)]

    def prefer(self, path: Path) -> None:
        """Begin the next attempt with the pair of addresses that has just worked."""
        pair = path.local, path.remote
        if pair in self.peer.addresses:
            self._pair = self.peer.addresses.index(pair)

    def connect(self, now: float) -> None:
        """Begin an IKE SA unless one is up or under way."""
        if self.stopped or self.attempt is not None:
            return
        if any(sa.state in _SERVING for sa in self.sas):
            return
        self.attempt = Attempt(self, now)

    def reauthenticate(self, now: float) -> None:
        """Begin an IKE SA that replaces those that are up (RFC 7296, 2.8.3)."""
        if not self.stopped and self.attempt is None:
            self.attempt = Attempt(self, now)

    def look_for_nat_again(self, now: float) -> None:
        """Make a new IKE SA, but not often, to see whether the NAT is still on the path.

        The NAT may be gone, or never have been there: a copy of IKE_SA_INIT that overtakes its
        original from a forged port looks the same. The IKE SA that results is of no use for its
        whole lifetime.
        """
        if self._nat_looks.allow(now):
            self.reauthenticate(now)

    # --- requests ----------------------------------------------------------------------------

    def submit(self, job: Job, now: float) -> None:
        """Send a request as soon as there is an IKE SA whose window is free."""
        self.jobs.append(job)
        self.pump(now)

    def pump(self, now: float) -> None:
        """Send the next request, if an IKE SA can carry it."""
        while self.jobs:
            sa = self.best()
            if sa is None:
                if any(job.needs_connection for job in self.jobs):
                    self.connect(now)
                return
            if sa.busy:
                return
            sa.ask(self.jobs.popleft(), now)

    def send_ids_in_flight(self) -> set[int]:
        """Return our SendIDs that a request under way names, for an MKT or in a DELETE."""
        found = {keyid for job in self.in_flight() for keyid in job.send_ids}
        if self.usable:
            # The pending DELETEs are sent before anything else.
            found.update(self.undoing)
        return found

    def deletes_in_flight(self) -> set[int]:
        """Return our SendIDs that a DELETE under way names."""
        jobs = (job for job in self.in_flight() if isinstance(job, DeleteKeys | UndoKeys))
        return {keyid for job in jobs for keyid in job.send_ids}

    def in_flight(self) -> list[Exchange]:
        """Return the requests that wait for an answer."""
        return [sa.asking.on_behalf_of for sa in self.sas if sa.asking is not None]

    # --- events of an IKE SA --------------------------------------------------------------------

    def initial_contact_received(self, sa: IkeSa) -> None:
        """Report INITIAL_CONTACT of the peer over an IKE SA that is about to be established."""
        self.tell(InitialContact(self.peer.name, sa.origin.begun))

    def established(self, sa: IkeSa, now: float, *, initial_contact: bool) -> None:
        """Note that an IKE SA was authenticated."""
        replaces = self.attempt is not None and sa.origin.initiator
        self.context.waiting.pop(sa, None)
        sa.happen(Happening.AUTHENTICATED)
        sa.proven()
        self.prefer(sa.path)
        if self.attempt is not None:
            if sa.origin.initiator:
                self.attempt.won(sa, now)
            elif not self.attempt.answered:
                # Nothing was proven in our attempt yet, so nothing is lost; the peer forgets its
                # half.
                self.attempt.abandon()
        if initial_contact:
            for other in list(self.sas):
                # A rekey since then belongs to the peer's previous instance too.
                if other.established is not None and other.authenticated < sa.origin.begun:
                    other.close(Cause.IKE_SA_LOST, now)
        origin = sa.origin
        self.tell(
            IkeSaUp(
                self.peer.name,
                origin.initiator,
                origin.profile,
                origin.nat,
                origin.spis,
                str(origin.suite),
                str(self.peer.remote_id),
                sa.proven_by,
            )
        )
        sa.replaces_older = replaces
        self.adopted(sa, now)
        self.pump(now)

    def adopted(self, sa: IkeSa, now: float) -> None:
        """Start the timers of an IKE SA that is up, by IKE_AUTH or by a rekey."""
        sa.established = now
        up = [one for one in self.sas if one.finished]
        up.sort(key=lambda one: one.established or now)
        for oldest in up[: -self.context.limits.established_most]:
            oldest.close(Cause.IKE_SA_LOST, now)
        schedule_rekey(sa, now)
        schedule_reauthentication(sa, now)
        if self.peer.liveness_idle is not None:
            watch(sa, self.peer.liveness_idle, now)
        if self.stopped:
            sa.queue(DeleteIkeSa(), now)
        delete_superseded(sa, now)
        self.redundant.look(now)

    def ended(self, sa: IkeSa, was: State, cause: Cause, text: str, now: float) -> None:
        """Note that an IKE SA was closed."""
        self.sas.remove(sa)
        self.context.waiting.pop(sa, None)
        lost = cause == Cause.NO_ANSWER and sa.established is not None
        if lost and self.address_pair == (sa.path.local, sa.path.remote):
            self._pair += 1
        if was == State.HALF_OPEN:
            self.unproven_work.keep_refused(sa, now)
            if cause in _WORTH_TELLING:
                self.counters.refused_auth += 1
                if self._failures_told.allow(now):
                    self.tell(IkeSaFailed(self.peer.name, 'IKE_AUTH', cause, text))
        elif was == State.AUTH_SENT:
            self.counters.refused_auth += cause in _WORTH_TELLING
            self.unproven(cause, text, now)
        elif sa.established is not None and not any(other.finished for other in self.sas):
            self.tell(IkeSaDown(self.peer.name, cause, text))
        self.redundant.look(now)
        self.pump(now)

    def change_trust(self, peer: Peer, now: float) -> None:
        """Use another credential of the peer; each IKE SA is judged by its own proof."""
        self.peer = peer
        wall = self.context.wall_clock()
        self._judge(lambda proof: proof.judge(peer.remote_credential, wall), now)

    def clock_was_set(self, now: float) -> None:
        """Judge each IKE SA by its own proof, at the new time."""
        wall, credential = self.context.wall_clock(), self.peer.remote_credential
        self._judge(lambda proof: proof.judge_by_clock(credential, wall), now)

    def _judge(self, judge: Callable[[Proof], None], now: float) -> None:
        for sa in list(self.sas):
            # Includes an IKE SA that is being rekeyed: its successor inherits the proof. And an IKE
            # SA whose proof is good, and whose IKE_AUTH waits for our user's decision about a
            # child.
            if sa.proof is None:
                continue
            try:
                judge(sa.proof)
            except AuthenticationFailed as error:
                self._distrust(sa, error.text, now)
            else:
                if sa.established is not None:
                    schedule_reauthentication(sa, now)

    def _distrust(self, sa: IkeSa, text: str, now: float) -> None:
        """Close an IKE SA at once, so that its holder gets nothing more.

        The Delete is sent once without waiting for its answer, which a peer could delay.
        """
        if sa.established is None:
            notify = NotifyType.AUTHENTICATION_FAILED
            sa.refuse_with(notify, now, cause=Cause.AUTHENTICATION_FAILED, text=text)
            return
        self.tell(IkeSaDistrusted(self.peer.name, sa.origin.spis, text))
        if not sa.busy and sa.state != State.DELETING:
            sa.queue(DeleteIkeSa(), now)
        sa.close(Cause.PROOF_ENDED, now, text)

    def forgotten(self, sa: IkeSa) -> None:
        """Forget a closed IKE SA whose answers need no repetition any more."""
        if sa.initial is not None:
            self.context.initials.pop(sa.initial, None)
        self.unproven_work.forgotten(sa)

    def unproven(self, cause: Cause, text: str, now: float) -> None:
        """Note that IKE_AUTH failed for an answer to our IKE_SA_INIT, which may not be the true
        one.
        """
        if self.attempt is not None:
            self.attempt.unproven(cause, text, now)

    def failed(self, step: str, cause: Cause, text: str, now: float) -> None:
        """Note that our attempt to make an IKE SA failed; fail the requests that waited for it."""
        self._pair += 1
        if any(sa.state in _SERVING for sa in self.sas):
            return
        self.tell(IkeSaFailed(self.peer.name, step, cause, text))
        jobs, self.jobs = self.jobs, deque()
        for job in jobs:
            job.lost(cause, text, now)

    def check_liveness_after_hint(self, now: float) -> None:
        """Ask the peer after a hint that it has lost an IKE SA, unless we have just asked."""
        if not self._hints.allow(now):
            return
        for sa in self.usable:
            if not sa.busy:
                sa.queue(Liveness(), now)

    # --- the end -----------------------------------------------------------------------------

    def drop(self, cause: Cause, now: float) -> None:
        """Close all finished IKE SAs without a message to the peer."""
        for sa in list(self.sas):
            if sa.finished:
                sa.close(cause, now)

    def drop_silent(self, patience: float, now: float) -> None:
        """Close the finished IKE SAs that have left a request unanswered for `patience` seconds."""
        for sa in list(self.sas):
            if sa.finished and sa.silent_for(now) >= patience:
                sa.close(Cause.NO_ANSWER, now)

    def repeat(self, now: float) -> None:
        """Repeat the requests that wait for an answer, unless that has just been done."""
        if self._repeats.allow(now):
            if self.attempt is not None:
                self.attempt.repeat(now)
            for sa in self.sas:
                sa.repeat(now)

    def stop(self, now: float) -> None:
        """Delete the IKE SAs of a peer that was removed from the configuration.

        No event follows.
        """
        if self.attempt is not None:
            self.attempt.abandon()
        jobs, self.jobs = self.jobs, deque()
        # A rekey that is under way is completed, so that its successor can be deleted too.
        for job in [*(one for one in self.in_flight() if isinstance(one, Job)), *jobs]:
            job.lost(Cause.STOPPED, '', now)
        if any(sa.finished for sa in self.sas):
            self.tell(IkeSaDown(self.peer.name, Cause.STOPPED))
        self.stopped = True
        self.jobs.clear()
        for sa in list(self.sas):
            if sa.finished:
                sa.queue(DeleteIkeSa(), now)
            else:
                sa.close(Cause.STOPPED, now)


_SERVING = frozenset({State.AUTH_SENT, State.ESTABLISHED, State.REKEYING})
"""States of an IKE SA that is up, or that will be if its handshake succeeds."""
