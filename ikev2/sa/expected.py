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
    """State that a responder keeps until the initiator has done all additional key exchanges."""

    methods: Sequence[KeyExchangeId]
    finish: Finish
    """Called with the payloads of the last answer and SK(1) to SK(n); must send the answer."""
    abandon: Callable[[float], None]
    """Called if the additional key exchanges will never be done."""
    lowest_nonce: bytes = b''
    """The lowest nonce of the CREATE_CHILD_SA that rekeys the IKE SA; empty for other requests."""
    secrets: tuple[Secret, ...] = ()
    timer: Timer | None = None
