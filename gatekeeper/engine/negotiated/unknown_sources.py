"""IKE from unknown addresses: reported to operators, never answered."""

from __future__ import annotations

from gatekeeper.reporting.events import EventName
from gatekeeper.reporting.reasons import Reason
from gatekeeper.state.store import Store
from ikev2.events import UnknownSource

TOLD_AGAIN_AFTER = 3600.0
"""Seconds until the same address is reported again."""
MAX_UNKNOWN_SOURCES = 8
"""Addresses reported in that time: anyone can send from any address, and must not fill a disk."""


def report_unknown_source(state: Store, event: UnknownSource, now: float) -> None:
    """Report IKE from an address without a neighbor: the operator at the other end sees no
    answer.
    """
    known = state.unknown_sources
    for address, told_at in list(known.items()):
        if now - told_at >= TOLD_AGAIN_AFTER:
            del known[address]
    if event.remote in known or len(known) >= MAX_UNKNOWN_SOURCES:
        return
    known[event.remote] = now
    state.note(
        None,
        EventName.REFUSED,
        step='IKE',
        cause=f'{event.remote} asks {event.local} for IKE, and is no address of a neighbor here',
        hint=state.fill(Reason.UNKNOWN_SOURCE.hint),
        reason=Reason.UNKNOWN_SOURCE.word,
    )
