"""The IKEv2 endpoint: the calls of the gatekeeper, and the delivery of datagrams to IKE SAs.

No I/O and no clock: datagrams, `now` (seconds, any origin, never going back) and randomness come
in; datagrams, events and the next deadline go out. The protocol itself is in the other modules.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from ikev2.association import Association
from ikev2.budget import Budget
from ikev2.constants import ExchangeType, NotifyType
from ikev2.context import NONCE_LENGTH, Context, Counters
from ikev2.cookies import CookieJar
from ikev2.errors import LocalError, MalformedMessage, UnsupportedVersion
from ikev2.events import Cause, Datagram, Event, IPAddress, RpSaKeys, RpSaRequest, UnknownSource
from ikev2.exchanges.create_child import serve_create_child
from ikev2.exchanges.follow_up import serve_follow_up
from ikev2.exchanges.ike_auth import serve_ike_auth
from ikev2.exchanges.ike_init_responder import serve_ike_init
from ikev2.exchanges.ike_intermediate import serve_intermediate
from ikev2.exchanges.ike_rekey import rekey
from ikev2.exchanges.informational import (
    DeleteKeys,
    Liveness,
    UndoKeys,
    serve_informational,
)
from ikev2.exchanges.rp_initiator import RequestRpSa
from ikev2.exchanges.rp_pending import PendingDelete, PendingRpSa
from ikev2.exchanges.unprotected import (
    answer_unknown_spi,
    answer_unknown_version,
    is_unprotected,
    take_hint,
)
from ikev2.limits import KeyLog, Limits
from ikev2.peer import Peer
from ikev2.sa.ike_sa import IkeSa
from ikev2.sa.transitions import State
from ikev2.snapshot import IkeSaSnapshot, Snapshot, snapshot_of, snapshot_of_ike_sa
from ikev2.wire.message import SPI_LENGTH, Header

_NO_SPI = bytes(SPI_LENGTH)


class Endpoint:
    """All IKE SAs of this host, with all peers. One thread at a time.

    A received datagram never raises. Calls with arguments that can't be right (an unknown peer, a
    suite that wasn't offered) raise LocalError and change nothing.
    """

    def __init__(
        self,
        *,
        random: Callable[[int], bytes],
        local_ports: tuple[int, int] = (500, 4500),
        has_mkts: Callable[[str], bool],
        limits: Limits | None = None,
        wall_clock: Callable[[], float] = time.time,
        cpu: Callable[[], float] = time.thread_time,
        key_log: KeyLog | None = None,
    ) -> None:
        """Make an endpoint without peers. `random(n)` returns n octets: `os.urandom`, or a test's.

        `local_ports` are our UDP ports without and with NAT traversal. `has_mkts(peer)` tells
        whether there is an MKT with that peer: this decides about INITIAL_CONTACT. `wall_clock`
        returns seconds since the epoch, by which certificates are judged. `cpu` returns the CPU
        seconds that this thread has used, for the limits on unauthenticated peers. `key_log` gets
        the keys of every IKE SA, rekeyed ones too, as lines of a table for Wireshark: for
        debugging, on explicit request.
        """
        limits = limits or Limits()
        self._context = Context(
            random=random,
            local_ports=local_ports,
            has_mkts=has_mkts,
            limits=limits,
            wall_clock=wall_clock,
            key_log=key_log,
            cookies=CookieJar(random, limits.cookie_secret_lifetime),
            cpu=cpu,
            budget=Budget(limits.unproven_share_in_all, limits.unproven_size_in_all),
            servers={
                ExchangeType.IKE_INTERMEDIATE: serve_intermediate,
                ExchangeType.IKE_AUTH: serve_ike_auth,
                ExchangeType.CREATE_CHILD_SA: serve_create_child,
                ExchangeType.IKE_FOLLOWUP_KE: serve_follow_up,
                ExchangeType.INFORMATIONAL: serve_informational,
            },
        )
        self._associations: dict[str, Association] = {}
        self._leaving: dict[str, list[Association]] = {}
        """Associations of removed peers, while they have IKE SAs."""
        self._by_address: dict[tuple[IPAddress, IPAddress], Association] = {}
        self._unknown_sources = Counters()

    # --- configuration -----------------------------------------------------------------------

    def set_peer(self, peer: Peer, now: float, *, left: Sequence[int] = ()) -> None:
        """Add a peer, or change one: then its IKE SAs are deleted, to be authenticated anew.

        `left` is the result of `remove_peer` for the same two identities: the next IKE SA deletes
        those MKTs. Raises LocalError if one of the remote addresses belongs to another peer.
        """
        known = self._associations.get(peer.name)
        if known is not None and known.peer == peer:
            return
        for local, remote in peer.addresses:
            other = self._by_address.get((local, remote))
            if other is not None and other is not known:
                raise LocalError(
                    f'{remote} belongs to peer {other.peer.name} and to peer {peer.name}'
                )
        if known is not None:
            undone = self.remove_peer(peer.name, now)
            if (peer.local_id, peer.remote_id) == (known.peer.local_id, known.peer.remote_id):
                left = (*left, *undone)
        association = Association(peer, self._context)
        for send_id in left:
            association.submit(UndoKeys(association, send_id), now)
        self._associations[peer.name] = association
        for pair in peer.addresses:
            self._by_address[pair] = association

    def change_trust(self, peer: Peer, now: float) -> None:
        """Change the credential that a peer must prove, and nothing else.

        Each of its IKE SAs is judged by its own proof, and closed at once if that proof does not
        hold. Raises LocalError if anything else has changed.
        """
        association = self._association(peer.name)
        if replace(association.peer, remote_credential=peer.remote_credential) != peer:
            raise LocalError(f'more than the credential of peer {peer.name} is new')
        association.change_trust(peer, now)

    def clock_was_set(self, now: float) -> None:
        """Judge all proofs again: `wall_clock` has made a step."""
        for association in self._associations.values():
            association.clock_was_set(now)

    def remove_peer(self, name: str, now: float) -> tuple[int, ...]:
        """Delete a peer's IKE SAs and forget the peer. Its requests fail with STOPPED.

        Returns our SendIDs of MKTs that only the peer may have, of requests that failed.
        """
        association = self._association(name)
        del self._associations[name]
        for pair in association.peer.addresses:
            del self._by_address[pair]
        association.stop(now)
        self._leaving.setdefault(name, []).append(association)
        return tuple(association.undoing)

    def close(self, now: float) -> None:
        """Remove all peers. While `is_parting`, some of the Deletes are not sent yet."""
        for name in list(self._associations):
            self.remove_peer(name, now)

    def is_parting(self) -> bool:
        """Return True while the Delete of an IKE SA waits for the answer to an earlier request.

        The window of an IKE SA holds one request (RFC 7296, 2.3).
        """
        return any(sa.control for group in self._context.sas.values() for sa in group)

    # --- datagrams, timers and events -------------------------------------------------------------

    def receive_datagram(self, datagram: Datagram, now: float) -> None:
        """Receive a datagram from the network, without non-ESP marker."""
        association = self._by_address.get((datagram.local, datagram.remote))
        counters = association.counters if association else self._unknown_sources
        try:
            header = Header.decode(datagram.data)
        except UnsupportedVersion as error:
            counters.malformed += 1
            if association is not None:
                answer_unknown_version(association, datagram, error, now)
            return
        except MalformedMessage:
            counters.malformed += 1
            return
        if header.exchange_type == ExchangeType.IKE_SA_INIT:
            if association is None:
                self._unknown_sources.unknown_address += 1
                self._context.events.append(UnknownSource(datagram.local, datagram.remote))
            else:
                self._receive_init(association, datagram, header, now)
            return
        sa = self._find(datagram, header, now)
        if sa is None:
            counters.unknown_spi += 1
            if association is not None:
                answer_unknown_spi(association, datagram, header, now)
        elif (datagram.local, datagram.remote) not in sa.association.peer.addresses:
            counters.unknown_address += 1
        elif is_unprotected(datagram):
            take_hint(sa, datagram, now)
        elif sa.finished:
            sa.receive(datagram, header, now)
        else:
            with sa.association.unproven_work.measured(now, sa):
                sa.receive(datagram, header, now)

    def _find(self, datagram: Datagram, header: Header, now: float) -> IkeSa | None:
        spi = header.responder_spi if header.initiator else header.initiator_spi
        named = [sa for sa in self._context.sas.get(spi, ()) if sa.named_by(header)]
        if len(named) > 1:
            # Several answers to one IKE_SA_INIT of ours, all but one of them forged: the keys tell
            # which. Once one is authenticated the others are closed, and have no keys.
            named = [sa for sa in named if sa.state != State.CLOSED]
        if len(named) > 1:
            return named[0].association.unproven_work.recognise(named, datagram, now)
        return named[0] if named else None

    def _receive_init(
        self, association: Association, datagram: Datagram, header: Header, now: float
    ) -> None:
        attempt = self._context.attempts.get(header.initiator_spi)
        if header.initiator and not header.response:
            if header.responder_spi == _NO_SPI != header.initiator_spi and not header.message_id:
                serve_ike_init(association, datagram, header, now)
                return
        elif header.response and not header.initiator and attempt is not None:
            attempt.receive(datagram, header, now)
            return
        association.counters.unexpected += 1

    def handle_timer(self, now: float) -> None:
        """Run the timers that are due.

        Call when `next_timer` has come; an earlier call does no harm.
        """
        self._context.timers.run(now)

    def next_timer(self) -> float | None:
        """Return the time at which to call `handle_timer`; None if there is no timer."""
        return self._context.timers.next()

    def datagrams_to_send(self) -> list[Datagram]:
        """Return the datagrams to send now, in order; each datagram once."""
        outbox, self._context.outbox = self._context.outbox, []
        return outbox

    def next_event(self) -> Event | None:
        """Return the next event, or None if there is none."""
        return self._context.events.popleft() if self._context.events else None

    # --- IKE SAs -----------------------------------------------------------------------------

    def connect(self, peer: str, now: float) -> None:
        """Make an IKE SA unless one is up, or under way from our side."""
        self._association(peer).connect(now)

    def check_liveness(self, peer: str, now: float) -> None:
        """Check the peer's liveness, unless a request that shows it is under way."""
        association = self._association(peer)
        sa = association.best()
        if sa is not None and not sa.busy:
            sa.queue(Liveness(), now)

    def rekey_ike_sa(self, peer: str, now: float) -> None:
        """Rekey the IKE SA now, not only before its lifetime ends."""
        sa = self._association(peer).best()
        if sa is not None:
            rekey(sa, now)

    def reauthenticate(self, peer: str, now: float) -> None:
        """Make a new IKE SA, with new proofs of both identities, then Delete the old one."""
        self._association(peer).reauthenticate(now)

    def replace_ike_sa(self, peer: str, now: float) -> None:
        """Forget the peer's IKE SAs, which do not answer, and make a new one."""
        association = self._association(peer)
        association.drop(Cause.IKE_SA_LOST, now)
        association.connect(now)

    def drop_silent(self, peer: str, patience: float, now: float) -> None:
        """Forget the IKE SAs that have left a request of ours unanswered for `patience` seconds.

        If no other IKE SA is up, a new one is made; waiting requests go over it.
        """
        association = self._association(peer)
        association.drop_silent(patience, now)
        association.connect(now)

    def repeat(self, peer: str, now: float) -> None:
        """Repeat the requests that wait for an answer, and go on with them as before."""
        self._association(peer).repeat(now)

    # --- routing-protocol SAs that we ask for ------------------------------------------------

    def request(
        self, peer: str, request: RpSaRequest, now: float, *, without_profile: bool = False
    ) -> int:
        """Ask for an RP SA; makes an IKE SA if there is none.

        Ends in RpSaNegotiated or RpSaFailed with the returned number. Without the peer's Vendor ID
        the request fails with NO_PROFILE, unless `without_profile` (for a probe or a test). Raises
        LocalError for a request that can't be sent.
        """
        association = self._association(peer)
        self._check_keyid(peer, request.keyid)
        number = self._context.number()
        try:
            job = RequestRpSa(association, number, request, without_profile=without_profile)
        except (KeyError, ValueError) as error:
            raise LocalError(f'not a request for an RP SA: {error}') from None
        association.submit(job, now)
        return number

    def cancel(self, peer: str, exchange: int, now: float) -> None:
        """Give up a `request`, whose answer is not needed any more; ends in RpSaFailed(CANCELLED).

        If the request is under way, the event comes with the answer, and a DELETE is sent. No
        effect on an exchange that has ended, or on a peer that was removed.
        """
        association = self._associations.get(peer)
        if association is None:
            return
        for job in list(association.jobs):
            if isinstance(job, RequestRpSa) and job.number == exchange:
                association.jobs.remove(job)
                job.lost(Cause.CANCELLED, '', now)
                return
        for flying in association.in_flight():
            if isinstance(flying, RequestRpSa) and flying.number == exchange:
                flying.cancelled = True
                return

    def withdraw(self, peer: str, exchange: int) -> bool:
        """Take back a `request` that has not been sent, and return True; no event follows.

        Returns False, and changes nothing, if the request is under way or has ended.
        """
        association = self._association(peer)
        for job in association.jobs:
            if isinstance(job, RequestRpSa) and job.number == exchange:
                association.jobs.remove(job)
                return True
        return False

    def send_ids_in_flight(self, peer: str) -> frozenset[int]:
        """Return our SendIDs that requests under way name, towards these two identities.

        A late repetition of such a request would hit another MKT that had got the same SendID.
        """
        return frozenset().union(*(one.send_ids_in_flight() for one in self._with_leaving(peer)))

    def _with_leaving(self, name: str) -> list[Association]:
        """Return the peer's association, and earlier ones that still have Deletes under way."""
        leaving = [one for one in self._leaving.get(name, ()) if one.sas]
        if leaving:
            self._leaving[name] = leaving
        else:
            self._leaving.pop(name, None)
        known = self._associations.get(name)
        return leaving if known is None else [known, *leaving]

    def _check_keyid(self, peer: str, keyid: int) -> None:
        if any(keyid in one.deletes_in_flight() for one in self._with_leaving(peer)):
            raise LocalError(f'a DELETE of KeyID {keyid} is under way')

    def delete(self, peer: str, send_ids: Sequence[int], now: float) -> int:
        """Send DELETE for MKTs, named by our SendIDs; ends in DeleteAnswered.

        Returns the exchange number. Raises LocalError if `send_ids` are not 1 to 255, or empty.
        """
        if not send_ids or not all(1 <= keyid <= 255 for keyid in send_ids):
            raise LocalError('a DELETE names KeyIDs from 1 to 255')
        association = self._association(peer)
        number = self._context.number()
        association.submit(DeleteKeys(association, send_ids, number), now)
        return number

    # --- routing-protocol SAs that a peer asks for -------------------------------------------

    def prepare(
        self, token: int, suite: str, tcp_options: bool, keyid: int, lifetime: int, now: float
    ) -> RpSaKeys | None:
        """Choose from an offer, and return the keys before the answer is sent: install, then
        `answer`.

        `keyid` is our SendID, `lifetime` our hard lifetime in seconds. Returns None if additional
        key exchanges come first: then RpSaPrepared has the keys, or RpSaAbandoned ends the request,
        at once if the IKE SA is closed or its peer was removed. Raises LocalError.
        """
        nr = self._context.random(NONCE_LENGTH)
        request = self._request(token)
        if request.unanswerable:
            request.abandon(token)
            request.decline(now)
            return None
        self._check_keyid(request.sa.association.peer.name, keyid)
        return request.prepare(token, suite, tcp_options, keyid, lifetime, nr, now)

    def answer(self, token: int, now: float) -> bool:
        """Send the prepared answer.

        Returns False if the IKE SA is closed or its peer was removed: the peer will never learn of
        this MKT.
        """
        request = self._request(token)
        answerable = not request.unanswerable
        if answerable or not request.prepared:
            request.send(now)
        else:
            request.decline(now)
        del self._context.pending[token]
        return answerable

    def refuse(self, token: int, notify: NotifyType, data: bytes, now: float) -> None:
        """Answer a request with an error notify; CHILD_SA_NOT_FOUND gets its SPI here."""
        request = self._request(token)
        del self._context.pending[token]
        request.refuse(notify, data, now)

    def answer_delete(self, token: int, send_ids: Sequence[int], now: float) -> None:
        """Answer a DELETE with our SendIDs of the MKTs that it removed, if any."""
        pending = self._context.pending.get(token)
        if not isinstance(pending, PendingDelete):
            raise LocalError(f'{token} is not the token of a DELETE')
        del self._context.pending[token]
        pending.answer(send_ids, now)

    # --- show --------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Return the state of this endpoint for `show`, without secrets."""
        return Snapshot(
            tuple(snapshot_of(association) for association in self._associations.values()),
            replace(self._unknown_sources),
        )

    def ike_sa_in_use(self, peer: str) -> IkeSaSnapshot | None:
        """Return the IKE SA that carries the next request to this peer; None if there is none."""
        sa = self._association(peer).best()
        return None if sa is None else snapshot_of_ike_sa(sa)

    def _association(self, peer: str) -> Association:
        try:
            return self._associations[peer]
        except KeyError:
            raise LocalError(f'there is no peer {peer}') from None

    def _request(self, token: int) -> PendingRpSa:
        pending = self._context.pending.get(token)
        if not isinstance(pending, PendingRpSa):
            raise LocalError(f'{token} is not the token of a request for an RP SA')
        return pending
