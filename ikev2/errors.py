"""Two families of errors: faults of the peer, and faults of our side.

Anything that arrives in a datagram raises `PeerError` or nothing. A `PeerError` knows the notify
that RFC 7296, 2.21 wants as an answer, if any; the engine decides whether that answer may be sent
at all (never to an unauthenticated response, never in answer to an error). No error text holds a
secret.
"""

# Named after the notify types of RFC 7296, 3.10.1, which don't end in "Error".
# ruff: noqa: N818

from __future__ import annotations

from enum import Enum, auto
from typing import ClassVar, Self

from ikev2.constants import NotifyType


class IkeError(Exception):
    """Base of all errors that this package raises on purpose."""


class LocalError(IkeError):
    """A fault of our side: a wrong argument, an unusable credential, something not supported
    here.
    """


class CredentialError(LocalError):
    """A local key or key file is unusable; the text says why."""


class UnsupportedAlgorithm(LocalError):
    """This host or library does not support an algorithm that it was told to use."""


class ProofFault(Enum):
    """Kind of fault in a proof of identity: advice is chosen by this value, texts are for
    people.
    """

    PSK = auto()
    PPK = auto()
    CERTIFICATE = auto()
    METHOD = auto()
    KEY = auto()
    """The public key is wrong, or the signature was made with another key."""
    REFUSED_US = auto()
    """The peer did not accept our proof."""


class FailureText(str):
    """Text of a failure for people, with its `fault` for code that decides."""

    __slots__ = ('fault',)
    fault: ProofFault

    def __new__(cls, text: str, fault: ProofFault) -> Self:
        made = super().__new__(cls, text)
        made.fault = fault
        return made


def fault_of(text: str) -> ProofFault | None:
    """Return the fault that goes with a failure's text, or None if the text has none."""
    return text.fault if isinstance(text, FailureText) else None


class PeerError(IkeError):
    """A fault of the peer. `notify` is the notify type of the answer, or None if none is sent."""

    notify: ClassVar[NotifyType | None] = None

    @property
    def text(self) -> str:
        """Return the text of this error, as FailureText if a fault goes with it."""
        said = self.args[0] if self.args else ''
        return said if isinstance(said, FailureText) else str(self)

    @property
    def notify_data(self) -> bytes:
        """Return the notification data that goes with `notify`."""
        return b''


class MalformedMessage(PeerError):
    """Type, length or value out of range in a received message (RFC 7296, 2.21)."""

    notify = NotifyType.INVALID_SYNTAX


class UnsupportedVersion(PeerError):
    """The major version is above 2 (RFC 7296, 2.5)."""

    notify = NotifyType.INVALID_MAJOR_VERSION

    def __init__(self, major: int) -> None:
        super().__init__(f'IKE major version {major} is not supported')
        self.major = major

    @property
    def notify_data(self) -> bytes:
        """Return one octet: the highest version that we support (RFC 7296, 3.10.1)."""
        return b'\x02'


class UnsupportedCriticalPayload(PeerError):
    """A payload of unknown type with the critical bit (RFC 7296, 2.5)."""

    notify = NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD

    def __init__(self, payload_type: int) -> None:
        super().__init__(f'payload type {payload_type} is critical and unknown')
        self.payload_type = payload_type

    @property
    def notify_data(self) -> bytes:
        """Return one octet: the payload type (RFC 7296, 3.10.1)."""
        return bytes([self.payload_type])


class IntegrityFailure(PeerError):
    """The integrity check of an SK or SKF payload fails; the message is dropped without an
    answer.
    """


class NoProposalChosen(PeerError):
    """Nothing in the peer's SA payload is acceptable (RFC 7296, 2.7)."""

    notify = NotifyType.NO_PROPOSAL_CHOSEN


class InvalidAnswer(PeerError):
    """A response is not consistent with our request (RFC 7296, 3.3.6 for SA payloads)."""


class ContradictoryAnswer(InvalidAnswer):
    """A response grants something and reports an error as well (RFC 7296, 3.10.1)."""

    def __init__(self, notify_type: int) -> None:
        super().__init__(f'the answer reports error {notify_type} beside what it grants')
        self.notify_type = notify_type


class InvalidKeyExchange(PeerError):
    """A public value fails its checks (RFC 6989, 2); the exchange is over."""

    notify = NotifyType.INVALID_SYNTAX


class WrongKeyExchangeGroup(PeerError):
    """The group of the KE payload is not the one that we choose (RFC 7296, 1.3 and 3.4)."""

    notify = NotifyType.INVALID_KE_PAYLOAD

    def __init__(self, wanted: int) -> None:
        super().__init__(f'the key exchange method must be {wanted}')
        self.wanted = wanted

    @property
    def notify_data(self) -> bytes:
        """Return two octets: the accepted group."""
        return self.wanted.to_bytes(2, 'big')


class TrafficSelectorsUnacceptable(PeerError):
    """A selector payload holds anything else than one TCP address and port."""

    notify = NotifyType.TS_UNACCEPTABLE


class AuthenticationFailed(PeerError):
    """AUTH does not verify, or the method, key or identity is not the configured one."""

    notify = NotifyType.AUTHENTICATION_FAILED

    def __init__(self, text: str, fault: ProofFault = ProofFault.KEY) -> None:
        super().__init__(FailureText(text, fault))


class UnknownIdentity(AuthenticationFailed):
    """The peer claims another identity than the configured one."""
