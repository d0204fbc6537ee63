"""The interface of an exchange that we initiate under an IKE SA: all that IkeSa needs to know.

There is one subclass for each kind of request, in the module of its exchange. IkeSa gives Message
IDs, protects, retransmits, and calls exactly one of `answered`, `broken` and `lost`.
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
        """Return the request that this one continues: itself, unless it goes on with another
        request.
        """
        return self

    @property
    def send_ids(self) -> Sequence[int]:
        """Return our SendIDs that the request names as its own MKTs or as those to delete."""
        return ()

    @abstractmethod
    def request(self, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        """Return the request's payloads, made when it is sent; None to drop the request instead."""

    @abstractmethod
    def answered(self, sa: IkeSa, message: Message, now: float) -> None:
        """Handle the authentic answer. May raise PeerError, which ends in `broken`."""

    @abstractmethod
    def broken(self, sa: IkeSa, error: PeerError, now: float) -> None:
        """Handle an answer that is authentic, but malformed or inconsistent."""

    @abstractmethod
    def lost(self, cause: Cause, text: str, now: float) -> None:
        """End without an answer: the IKE SA ended first, or none could be made for the request."""


class Job(Exchange):
    """A request that any IKE SA to the peer can carry, and that waits for one if there is none."""

    number: int | None = None
    """The exchange number that our user knows; None for requests of our own."""
    needs_connection: bool = True
    """True if an IKE SA is to be made for this request where there is none."""
