"""Mutual authentication: credentials, the octets that AUTH covers, AUTH payloads.

RFC 7296, 2.15 (pre-shared keys), RFC 7427 with RFC 8420 (signatures), RFC 7670 (raw public keys).
Who may use which identity is in the PAD, not here: this module only proves possession.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from cryptography.hazmat.primitives.constant_time import bytes_eq

from ikev2.constants import AuthMethod, CertificateEncoding, NotifyType
from ikev2.errors import AuthenticationFailed, CredentialError, MalformedMessage
from ikev2.payloads import (
    AuthPayload,
    CertificatePayload,
    CertificateRequestPayload,
    IdentificationPayload,
    NotifyPayload,
)
from ikev2.prf import prf
from ikev2.signatures import SUPPORTED_HASHES, Fingerprint, PrivateKey, PublicKey
from keymaterial import Secret

__all__ = [
    'Fingerprint',
    'LocalCredential',
    'PeerCredential',
    'PresharedKey',
    'PrivateKey',
    'PublicKey',
    'certificate_requests',
    'certificates',
    'make_auth',
    'read_signature_hashes',
    'signature_hashes',
    'signed_octets',
    'verify_auth',
]

_HEX_PREFIX = b'0x'
_KEY_PAD = b'Key Pad for IKEv2'  # RFC 7296, 2.15: 17 octets, no terminator


@dataclass(frozen=True, slots=True)
class PresharedKey:
    """A secret that both sides hold: octets of any length but 0, used as they are."""

    secret: Secret

    @classmethod
    def load(cls, content: Secret) -> Self:
        """From the content of a file: octets, or 0x and hex digits (RFC 7296, 2.15 wants both).

        Raises CredentialError.
        """
        octets = content.reveal()
        if not octets.startswith(_HEX_PREFIX):
            return cls(content)
        try:
            return cls(Secret(bytes.fromhex(octets.removeprefix(_HEX_PREFIX).decode('ascii'))))
        except ValueError:
            raise CredentialError('the pre-shared key begins with 0x but is not hex') from None

    def __post_init__(self) -> None:
        if not len(self.secret):
            raise CredentialError('the pre-shared key is empty')


LocalCredential = PresharedKey | PrivateKey
PeerCredential = PresharedKey | PublicKey | Fingerprint


def signed_octets(
    prf_id: int,
    message: bytes,
    nonce: bytes,
    sk_p: Secret,
    identification: IdentificationPayload,
    intermediate: bytes = b'',
) -> bytes:
    """InitiatorSignedOctets or ResponderSignedOctets (RFC 7296, 2.15).

    `message` is the signer's last IKE_SA_INIT message as it was on the wire, from the first
    octet of the SPIs; `nonce` the other side's; `sk_p` the signer's SK_pi or SK_pr;
    `identification` the signer's ID payload as sent; `intermediate` IntAuth (RFC 9242, 3.3.2).
    """
    maced_id = prf(prf_id, sk_p, identification.encode_body())
    return message + nonce + maced_id + intermediate


def make_auth(
    credential: LocalCredential, prf_id: int, octets: bytes, peer_hashes: Collection[int]
) -> AuthPayload:
    """Our AUTH payload over our signed octets.

    `peer_hashes` is what the peer's SIGNATURE_HASH_ALGORITHMS said, empty if it sent none.
    Raises AuthenticationFailed if the peer can't verify what our key makes.
    """
    if isinstance(credential, PresharedKey):
        return AuthPayload(AuthMethod.SHARED_KEY_MIC, _shared_key_mic(credential, prf_id, octets))
    return AuthPayload(AuthMethod.DIGITAL_SIGNATURE, credential.sign(octets, peer_hashes))


def verify_auth(
    credential: PeerCredential,
    prf_id: int,
    octets: bytes,
    auth: AuthPayload,
    received: Sequence[CertificatePayload] = (),
) -> None:
    """Check the peer's AUTH payload over its signed octets.

    `received` are its CERT payloads; they count only where the credential is a fingerprint.
    Raises AuthenticationFailed, also if it used another method than the configured one.
    """
    if isinstance(credential, PresharedKey):
        _require_method(auth, AuthMethod.SHARED_KEY_MIC)
        if not bytes_eq(_shared_key_mic(credential, prf_id, octets), auth.data):
            raise AuthenticationFailed('the pre-shared keys differ')
        return
    _require_method(auth, AuthMethod.DIGITAL_SIGNATURE)
    if isinstance(credential, Fingerprint):
        credential = _pinned(credential, received)
    credential.verify(auth.data, octets)


def certificate_requests(credential: PeerCredential) -> tuple[CertificateRequestPayload, ...]:
    """The CERTREQ payloads to send so that the peer's credential can be checked."""
    if isinstance(credential, Fingerprint):
        return (CertificateRequestPayload(CertificateEncoding.RAW_PUBLIC_KEY),)
    return ()


def certificates(
    credential: LocalCredential, requests: Sequence[CertificateRequestPayload]
) -> tuple[CertificatePayload, ...]:
    """The CERT payloads that answer the peer's CERTREQ payloads."""
    wanted = {request.encoding for request in requests}
    if isinstance(credential, PrivateKey) and CertificateEncoding.RAW_PUBLIC_KEY in wanted:
        spki = credential.public_key.spki
        return (CertificatePayload(CertificateEncoding.RAW_PUBLIC_KEY, spki),)
    return ()


def signature_hashes() -> NotifyPayload:
    """Our SIGNATURE_HASH_ALGORITHMS (RFC 7427, 4), for IKE_SA_INIT."""
    data = b''.join(number.to_bytes(2, 'big') for number in SUPPORTED_HASHES)
    return NotifyPayload(NotifyType.SIGNATURE_HASH_ALGORITHMS, data)


def read_signature_hashes(notify: NotifyPayload | None) -> frozenset[int]:
    """The peer's hash algorithms; none without the notify. Raises MalformedMessage."""
    data = notify.data if notify else b''
    if len(data) % 2:
        raise MalformedMessage('SIGNATURE_HASH_ALGORITHMS with half a number')
    return frozenset(int.from_bytes(data[i : i + 2], 'big') for i in range(0, len(data), 2))


def _shared_key_mic(credential: PresharedKey, prf_id: int, octets: bytes) -> bytes:
    padded = Secret(prf(prf_id, credential.secret, _KEY_PAD))
    mic = prf(prf_id, padded, octets)
    padded.wipe()
    return mic


def _require_method(auth: AuthPayload, method: AuthMethod) -> None:
    if auth.method != method:
        raise AuthenticationFailed(
            f'the peer authenticates by method {auth.method}, {method.value} is configured'
        )


def _pinned(fingerprint: Fingerprint, received: Sequence[CertificatePayload]) -> PublicKey:
    """The key that the peer sent, if it is the pinned one."""
    keys = [c.data for c in received if c.encoding == CertificateEncoding.RAW_PUBLIC_KEY]
    if not keys:
        raise AuthenticationFailed('the peer sent no raw public key')
    # Only the first may hold the key that AUTH is checked with (RFC 7296, 3.6).
    if not bytes_eq(sha256(keys[0]).digest(), fingerprint.digest):
        raise AuthenticationFailed("the peer's public key has another fingerprint")
    return PublicKey(keys[0])
