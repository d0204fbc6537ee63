"""An exchange that we initiate under an IKE SA: what IkeSa needs to know of it, and nothing else.

One subclass for each kind of request, in the module of its exchange. IkeSa gives Message IDs,
protects, retransmits, and calls exactly one of `answered`, `broken` and `lost`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from ikev2.constants import ExchangeType
from ikev2.errors import PeerError
from ikev2.events import Cause
from ikev2.wire.message import Message
from ikev2.wire.payload import Payload

if TYPE_CHECKING:
    from ikev2.sa.ike_sa import IkeSa


class Exchange(ABC):
    """One request of ours, from the queue to its end."""

    exchange_type: ClassVar[ExchangeType]

    @property
    def on_behalf_of(self) -> Exchange:
        """The request that this one is part of: itself, unless it only goes on with another."""
        return self

    @property
    def send_ids(self) -> Sequence[int]:
        """Our SendIDs that the request names as its own MKTs or as those to delete."""
        return ()

    @abstractmethod
    def request(self, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        """The request's payloads, made when its turn has come; None to drop it instead."""

    @abstractmethod
    def answered(self, sa: IkeSa, message: Message, now: float) -> None:
        """The authentic answer. May raise PeerError, which ends in `broken`."""

    @abstractmethod
    def broken(self, sa: IkeSa, error: PeerError, now: float) -> None:
        """The answer is authentic, but makes no sense."""

    @abstractmethod
    def lost(self, cause: Cause, text: str, now: float) -> None:
        """The IKE SA ended before the answer came, or none came up to send the request over."""


class Job(Exchange):
    """A request that any IKE SA to the peer can carry; it waits for one if need be."""

    number: int | None = None
    """The exchange number that our user knows it by; None for those of our own."""
    needs_connection: bool = True
    """An IKE SA is to be made for it if there is none."""
