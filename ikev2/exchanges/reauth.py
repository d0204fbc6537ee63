"""Reauthentication, make before break (RFC 7296, 2.8.3): a new IKE SA, then the old one's Delete.

A rekey is no new proof. The end of a proof is configured, or is that of its certificates and CRLs.
Routing-protocol SAs are not touched, since they do not belong to an IKE SA.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ikev2.events import Cause
from ikev2.exchanges.informational import DeleteIkeSa
from ikev2.sa.transitions import USABLE, State

if TYPE_CHECKING:
    from ikev2.sa.ike_sa import IkeSa


def schedule_reauthentication(sa: IkeSa, now: float) -> None:
    """Begin reauthentication early, and again if it fails; no proof is used beyond its end."""
    for timer in sa.reauthentication:
        timer.cancel()
    sa.reauthentication = []
    association = sa.association
    limits = association.context.limits
    after = association.peer.reauthenticate_after
    until = sa.proven_by.until
    ends = [] if until is None else [now + until - association.context.wall_clock()]
    if after is not None:
        ends.append(sa.authenticated + after)
    if not ends:
        return
    end = min(ends)
    part = int.from_bytes(association.context.random(2), 'big') / 0xFFFF
    early = (end - sa.authenticated) * (limits.rekey_margin + part * limits.rekey_jitter)

    def begin(now: float) -> None:
        if sa.state in USABLE:
            association.reauthenticate(now)
        if sa.state in USABLE or sa.state == State.REKEYING:  # a rekey may be refused
            sa.reauthentication.append(sa.at(now + limits.reauthentication_retry, begin))

    def expire(now: float) -> None:
        if sa.busy and sa.finished:
            # A peer that leaves our request unanswered must not prolong its proof by that.
            sa.close(Cause.PROOF_ENDED, now)
        elif sa.finished:
            sa.queue(DeleteIkeSa(), now)

    sa.reauthentication = [sa.at(max(now, end - early), begin), sa.at(max(now, end), expire)]


def is_superseded(sa: IkeSa) -> bool:
    """Return True if we have made another IKE SA to replace this one.

    The newer proof wins, even over a newer IKE SA that a rekey has made under the older proof.
    """
    return any(
        other.finished and other.replaces_older and sa.authenticated < other.origin.begun
        for other in sa.association.sas
    )


def delete_superseded(sa: IkeSa, now: float) -> None:
    """Delete every IKE SA that we have replaced, now that another one has come up."""
    for old in list(sa.association.sas):
        if old.established is not None and old.finished and is_superseded(old):
            old.queue(DeleteIkeSa(), now)
