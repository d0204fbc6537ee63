"""Additional key exchanges that a responder expects (RFC 9370, 2.2.4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ikev2.constants import KeyExchangeId
from ikev2.timers import Timer
from ikev2.wire.payload import Payload
from keymaterial import Secret

if TYPE_CHECKING:
    pass


Finish = Callable[[Sequence[Payload], Sequence[Secret], float], None]


@dataclass(slots=True)
class Expected:
    """What a responder keeps until the initiator has done all additional key exchanges."""

    methods: Sequence[KeyExchangeId]
    finish: Finish
    """Gets what belongs into the last answer, and SK(1) to SK(n); has to see to the answer."""
    abandon: Callable[[float], None]
    """They will never be done."""
    lowest_nonce: bytes = b''
    """Of the CREATE_CHILD_SA that rekeys the IKE SA; empty for one that does not."""
    secrets: tuple[Secret, ...] = ()
    timer: Timer | None = None
