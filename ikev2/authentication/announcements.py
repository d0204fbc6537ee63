"""SUPPORTED_AUTH_METHODS: the methods by which a peer may authenticate to us (RFC 9593).

A hint in both directions: the receiver may choose from it; only verification counts in the end.
Three forms of announcement: a method alone, a method with a CA (we never send these), and the
Digital Signature method with an AlgorithmIdentifier.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ikev2.authentication.auth import PeerCredential, PresharedKey, PublicKey
from ikev2.authentication.signatures.schemes import KINDS, SignatureScheme, kind_of, schemes_of
from ikev2.constants import AuthMethod, NotifyType
from ikev2.errors import MalformedMessage
from ikev2.wire.payloads import NotifyPayload
from ikev2.wire.reader import Reader

_METHOD_ALONE: Final = 2  # octets, the length included
_WITH_ALGORITHM: Final = 4
_ANY_CA: Final = 0  # Cert Link


def announce(credential: PeerCredential) -> NotifyPayload:
    """Return the notify for a peer that must prove this credential, the most preferred method
    first.
    """
    if isinstance(credential, PresharedKey):
        data = bytes([_METHOD_ALONE, AuthMethod.SHARED_KEY_MIC])
    else:
        data = b''.join(_announcement(scheme) for scheme in _schemes(credential))
    return NotifyPayload(NotifyType.SUPPORTED_AUTH_METHODS, data)


def _schemes(credential: PeerCredential) -> Iterable[SignatureScheme]:
    """Return all schemes of a known key; else the best scheme for each kind of key.

    The list is a hint and need not be complete, and IKE_SA_INIT can't be fragmented.
    """
    if isinstance(credential, PublicKey):
        return schemes_of(kind_of(credential.key))
    return dict.fromkeys(schemes_of(kind)[0] for kind in KINDS)


def _announcement(scheme: SignatureScheme) -> bytes:
    identifier = scheme.identifier
    header = [3 + len(identifier), AuthMethod.DIGITAL_SIGNATURE, _ANY_CA]
    return bytes(header) + identifier


def read_announcements(notify: NotifyPayload | None) -> tuple[bytes, ...]:
    """Return the AlgorithmIdentifiers that a peer accepts; none without the notify.

    Announcements of other methods leave us nothing to choose. Raises MalformedMessage.
    """
    if notify is None:
        return ()
    reader = Reader(notify.data, 'SUPPORTED_AUTH_METHODS')
    identifiers = []
    while reader.remaining:
        length = reader.uint8()
        if length < _METHOD_ALONE:
            raise MalformedMessage(f'announcement of {length} octets')
        announcement = reader.take(length - 1)
        if announcement[0] == AuthMethod.DIGITAL_SIGNATURE and length >= _WITH_ALGORITHM:
            identifiers.append(announcement[2:])
    return tuple(identifiers)
