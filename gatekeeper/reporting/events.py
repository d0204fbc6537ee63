"""The gatekeeper's events for operators: one vocabulary for logs, the API and timelines."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum


class EventName(StrEnum):
    """The names of all events."""

    BIND = 'bind'
    IKE_INIT = 'ike_init'
    IKE_AUTH = 'ike_auth'
    CHILD_SA = 'child_sa'
    MKT_INSTALLED = 'mkt_installed'
    SYN = 'syn'
    ESTABLISHED = 'established'
    OPEN = 'open'
    ROUTE = 'route'
    REKEY_STARTED = 'rekey_started'
    RNEXT_MOVED = 'rnext_moved'
    MKT_REMOVED = 'mkt_removed'
    REFUSED = 'refused'
    OPERATOR = 'operator'
    EXPIRES = 'expires'
    END = 'end'


@dataclass(frozen=True, slots=True)
class OperatorEvent:
    """An event for operators; holds no secrets."""

    time: float
    """Seconds since the epoch."""
    router: str
    session: str | None
    event: EventName
    details: dict[str, str | int | float | bool | None] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return one line of `timeline.jsonl`."""
        return json.dumps(
            {
                'time': self.time,
                'router': self.router,
                'session': self.session,
                'event': str(self.event),
                'details': self.details,
            }
        )
