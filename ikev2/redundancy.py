"""IKE SAs that are silent, or one too many: checked for liveness, and deleted when idle."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ikev2.exchanges.informational import DeleteIkeSa, Liveness
from ikev2.exchanges.reauth import is_superseded
from ikev2.sa.transitions import USABLE
from ikev2.timers import Timer

if TYPE_CHECKING:
    from ikev2.context import Context
    from ikev2.sa.ike_sa import IkeSa


def watch(sa: IkeSa, idle: float, now: float) -> None:
    """Check the peer's liveness whenever an IKE SA was silent for `idle` seconds."""

    def look(now: float) -> None:
        if sa.state not in USABLE:
            return
        if now < sa.last_received_at + idle:
            sa.at(sa.last_received_at + idle, look)
            return
        sa.at(now + idle, look)
        if not sa.busy:
            sa.queue(Liveness(), now)

    sa.at(now + idle, look)


class RedundantSas:
    """One peer's IKE SAs where there are more than one."""

    def __init__(self, context: Context, usable: Callable[[], list[IkeSa]]) -> None:
        """Take `usable`, which returns the IKE SAs that our requests may use."""
        self._context = context
        self._usable = usable
        self._timer: Timer | None = None

    def look(self, now: float) -> None:
        """Schedule the choice of one IKE SA, after a change in their number."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if len(self._usable()) > 1:
            when = now + self._context.limits.redundant_idle
            self._timer = self._context.timers.at(when, self._settle)

    def _settle(self, now: float) -> None:
        """Delete the idle IKE SA with the lowest nonce of two, if we initiated it.

        The other one must have proven its liveness at both ends: hence the liveness check.
        """
        usable = [sa for sa in self._usable() if not is_superseded(sa)]
        if len(usable) < 2:
            return
        idle = self._context.limits.redundant_idle
        idle_from = max(sa.last_message_at for sa in usable) + idle
        if now < idle_from or any(sa.busy or sa.answering for sa in usable):
            self.look(max(now, idle_from - idle))
            return
        winner = max(usable, key=lambda sa: sa.origin.lowest_nonce)
        losers = [sa for sa in usable if sa is not winner]
        ours = [sa for sa in losers if sa.origin.initiator]

        def delete(now: float) -> None:
            for sa in ours:
                if sa.state in USABLE:
                    sa.queue(DeleteIkeSa(), now)

        winner.queue(Liveness(delete if ours else None), now)
        for sa in usable:
            if sa not in ours:
                # Of two that are left the peer deletes the one with the lowest nonce. But by then
                # the peer may have lost that one, or have given up the other: this check finds out.
                self._check_later(sa, now)

    def _check_later(self, sa: IkeSa, now: float) -> None:
        def check(now: float) -> None:
            if sa.state in USABLE and not sa.busy:
                sa.queue(Liveness(), now)

        sa.at(now + 2 * self._context.limits.give_up, check)
