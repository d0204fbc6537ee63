"""Work for peers that are not authenticated yet: its CPU time, and its memory.

Decides which work may be begun, and which IKE SA is dropped for the newest. When a peer is
authenticated is decided elsewhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from ikev2.budget import Budget
from ikev2.errors import InvalidKeyExchange
from ikev2.events import Cause, Datagram
from ikev2.sa.transitions import State

if TYPE_CHECKING:
    from ikev2.context import Context
    from ikev2.sa.ike_sa import IkeSa


class _Measured:
    """Work that is going on.

    Not a generator, for speed: one begins for each datagram of a handshake.
    """

    __slots__ = ('_before', '_cpu', '_known', '_now', '_received', '_sa', '_sas', '_work')

    def __init__(
        self,
        work: UnprovenWork,
        sas: list[IkeSa],
        cpu: Callable[[], float],
        now: float,
        sa: IkeSa | None,
    ) -> None:
        self._work = work
        self._sas = sas
        self._cpu = cpu
        self._now = now
        self._sa = sa

    def __enter__(self) -> None:
        self._known = len(self._sas)
        self._received = self._sa.received if self._sa is not None else -1
        self._before = self._cpu()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        sa = self._sa
        if sa is None and len(self._sas) > self._known:
            sa = self._sas[-1]
        tried = kind is not None and issubclass(kind, InvalidKeyExchange)
        if not tried and (sa is None or sa.received == self._received):
            return
        if sa is not None and sa.finished:
            self._work.give_back(sa)
        else:
            self._work.charge(self._cpu() - self._before, sa, self._now)


class UnprovenWork:
    """One peer's part of the work for unauthenticated peers."""

    def __init__(self, context: Context, sas: list[IkeSa]) -> None:
        """Take `sas`, the owner's list of the peer's IKE SAs that are not closed, the oldest
        first.
        """
        limits = context.limits
        self._context = context
        self._sas = sas
        self._budget = Budget(limits.unproven_share, limits.unproven_size)
        self._refused: deque[IkeSa] = deque()

    @property
    def half_open(self) -> list[IkeSa]:
        """Return IKE SAs that the peer began and has not authenticated yet, the oldest first."""
        return [sa for sa in self._sas if sa.state == State.HALF_OPEN]

    def may_begin(self, now: float, *, cookie: bool) -> bool:
        """Return True if there is CPU time left, for this peer and in all."""
        return self._budget.allows(now, cookie=cookie) and self._context.budget.allows(
            now, cookie=cookie
        )

    def measured(self, now: float, sa: IkeSa | None = None) -> _Measured:
        """Charge for the work done in this context: making an IKE SA, or a datagram for one, `sa`.

        Messages that are refused or dropped unread are not charged: a flood of them must not use up
        the CPU time of the true peer. The cost of an IKE SA is given back once the peer is
        authenticated.
        """
        return _Measured(self, self._sas, self._context.cpu, now, sa)

    def recognise(self, several: list[IkeSa], datagram: Datagram, now: float) -> IkeSa | None:
        """Return the one of `several` IKE SAs with the same SPIs whose peer has sealed a datagram.

        One datagram costs as many decryptions as answers are tried: that is charged, and not begun
        if there is no CPU time left. The true peer repeats its datagram.
        """
        if not self.may_begin(now, cookie=True):
            several[0].association.counters.limited += 1
            return None
        before = self._context.cpu()
        found = next((sa for sa in several if sa.recognises(datagram)), None)
        self.charge(self._context.cpu() - before, found, now)
        return found

    def give_back(self, sa: IkeSa) -> None:
        """Give back the cost of an IKE SA whose peer has authenticated."""
        self._budget.give_back(sa.unproven_cpu)
        self._context.budget.give_back(sa.unproven_cpu)
        sa.unproven_cpu = 0.0

    def charge(self, spent: float, sa: IkeSa | None, now: float) -> None:
        """Charge `spent` CPU seconds for an unauthenticated peer, for `sa` if there is one."""
        self._budget.spend(spent, now)
        self._context.budget.spend(spent, now)
        if sa is not None:
            sa.unproven_cpu += spent

    def make_room(self, now: float) -> None:
        """Close the oldest half-open IKE SA if there are too many: the newest may be the true
        peer's.
        """
        limits, waiting = self._context.limits, self.half_open
        if len(waiting) > limits.half_open_most:
            waiting[0].close(Cause.CANCELLED, now)
        elif self._context.half_open > limits.half_open_in_all:
            next(iter(self._context.waiting)).close(Cause.CANCELLED, now)

    def keep_refused(self, sa: IkeSa, now: float) -> None:
        """Keep a closed IKE SA of an unauthenticated peer, for repetitions of our answer."""
        if not sa.has_answered:
            sa.forget(now)
            return
        self._refused.append(sa)
        if len(self._refused) > self._context.limits.half_open_most:
            self._refused.popleft().forget(now)

    def forgotten(self, sa: IkeSa) -> None:
        """Stop keeping a closed IKE SA."""
        if sa in self._refused:
            self._refused.remove(sa)
