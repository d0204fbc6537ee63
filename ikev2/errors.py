"""Two families of errors: what the peer did wrong, and what went wrong on our side.

Anything that arrives in a datagram raises `PeerError` or nothing. A `PeerError` knows the notify
that RFC 7296, 2.21 wants as an answer, if any; whether one may be sent at all (never to an
unauthenticated response, never in answer to an error) is the engine's business.
No error text holds a secret.
"""

# Named after the notify types of RFC 7296, 3.10.1, which don't end in "Error".
# ruff: noqa: N818

from __future__ import annotations

from enum import Enum, auto
from typing import ClassVar, Self

from ikev2.constants import NotifyType


class IkeError(Exception):
    """Base of everything that this package raises on purpose."""


class LocalError(IkeError):
    """Our side's fault: a wrong argument, an unusable credential, something not supported here."""


class CredentialError(LocalError):
    """A local key or key file can't be used; the text says why."""


class UnsupportedAlgorithm(LocalError):
    """This host or library can't do an algorithm that it was told to use."""


class ProofFault(Enum):
    """What is wrong with a proof of identity: advice is chosen by it, texts are for people."""

    PSK = auto()
    PPK = auto()
    CERTIFICATE = auto()
    METHOD = auto()
    KEY = auto()
    """The public key, or the signature that was made with another one."""
    REFUSED_US = auto()
    """The peer did not take ours."""


class FailureText(str):
    """Why something failed, for people; with `fault` for who decides by it."""

    __slots__ = ('fault',)
    fault: ProofFault

    def __new__(cls, text: str, fault: ProofFault) -> Self:
        made = super().__new__(cls, text)
        made.fault = fault
        return made


def fault_of(text: str) -> ProofFault | None:
    """Return the fault that goes with a failure's text, None where there is none."""
    return text.fault if isinstance(text, FailureText) else None


class PeerError(IkeError):
    """The peer's fault. `notify` is the answer's notify type, or None where none is sent."""

    notify: ClassVar[NotifyType | None] = None

    @property
    def text(self) -> str:
        """Why, with its fault where it has one."""
        said = self.args[0] if self.args else ''
        return said if isinstance(said, FailureText) else str(self)

    @property
    def notify_data(self) -> bytes:
        """Notification data that goes with `notify`."""
        return b''


class MalformedMessage(PeerError):
    """Type, length or value out of range in a received message (RFC 7296, 2.21)."""

    notify = NotifyType.INVALID_SYNTAX


class UnsupportedVersion(PeerError):
    """Major version above 2 (RFC 7296, 2.5)."""

    notify = NotifyType.INVALID_MAJOR_VERSION

    def __init__(self, major: int) -> None:
        super().__init__(f'IKE major version {major} is not supported')
        self.major = major

    @property
    def notify_data(self) -> bytes:
        """One octet: the highest version that we speak (RFC 7296, 3.10.1)."""
        return b'\x02'


class UnsupportedCriticalPayload(PeerError):
    """A payload of unknown type with the critical bit (RFC 7296, 2.5)."""

    notify = NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD

    def __init__(self, payload_type: int) -> None:
        super().__init__(f'payload type {payload_type} is critical and unknown')
        self.payload_type = payload_type

    @property
    def notify_data(self) -> bytes:
        """One octet: the payload type (RFC 7296, 3.10.1)."""
        return bytes([self.payload_type])


class IntegrityFailure(PeerError):
    """An SK or SKF payload whose integrity check fails; dropped without an answer."""


class NoProposalChosen(PeerError):
    """Nothing in the peer's SA payload is acceptable (RFC 7296, 2.7)."""

    notify = NotifyType.NO_PROPOSAL_CHOSEN


class InvalidAnswer(PeerError):
    """A response that isn't consistent with our request (RFC 7296, 3.3.6 for SA payloads)."""


class ContradictoryAnswer(InvalidAnswer):
    """A response that grants something and reports an error beside (RFC 7296, 3.10.1)."""

    def __init__(self, notify_type: int) -> None:
        super().__init__(f'the answer reports error {notify_type} beside what it grants')
        self.notify_type = notify_type


class InvalidKeyExchange(PeerError):
    """A public value that fails its checks (RFC 6989, 2); the exchange is over."""

    notify = NotifyType.INVALID_SYNTAX


class WrongKeyExchangeGroup(PeerError):
    """The KE payload's group isn't the one we choose (RFC 7296, 1.3 and 3.4)."""

    notify = NotifyType.INVALID_KE_PAYLOAD

    def __init__(self, wanted: int) -> None:
        super().__init__(f'the key exchange method must be {wanted}')
        self.wanted = wanted

    @property
    def notify_data(self) -> bytes:
        """Two octets: the accepted group."""
        return self.wanted.to_bytes(2, 'big')


class TrafficSelectorsUnacceptable(PeerError):
    """Not exactly one TCP address and port in each selector payload."""

    notify = NotifyType.TS_UNACCEPTABLE


class AuthenticationFailed(PeerError):
    """AUTH doesn't verify, or the method, key or identity isn't the configured one."""

    notify = NotifyType.AUTHENTICATION_FAILED

    def __init__(self, text: str, fault: ProofFault = ProofFault.KEY) -> None:
        super().__init__(FailureText(text, fault))
