"""Mutual authentication: the octets that AUTH covers, AUTH payloads, CERT and CERTREQ.

RFC 7296, 2.15 (pre-shared keys), 3.6 to 3.8; RFC 7427 with RFC 8420 (signatures); RFC 7670 (raw
public keys). The keys are in signatures/keys.py, X.509 in x509/paths.py, announcements of methods
in announcements.py. The PAD decides who may use which identity: this module only proves possession,
and that a certificate names the claimed identity.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from cryptography.hazmat.primitives.constant_time import bytes_eq

from ikev2.authentication.credentials import CertifiedKey, TrustAnchors
from ikev2.authentication.identity import Identity
from ikev2.authentication.signatures.keys import (
    Fingerprint,
    PrivateKey,
    PublicKey,
    verify_signature,
)
from ikev2.authentication.signatures.schemes import SUPPORTED_HASHES
from ikev2.constants import AuthMethod, CertificateEncoding, NotifyType
from ikev2.crypto.prf import prf
from ikev2.errors import AuthenticationFailed, CredentialError, MalformedMessage, ProofFault
from ikev2.wire.payloads import (
    AuthPayload,
    CertificatePayload,
    CertificateRequestPayload,
    IdentificationPayload,
    NotifyPayload,
)
from keymaterial import Secret, pem_label

__all__ = [
    'CertifiedKey',
    'Fingerprint',
    'LocalCredential',
    'PeerCredential',
    'PresharedKey',
    'PrivateKey',
    'PublicKey',
    'TrustAnchors',
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
    """A secret that both sides hold: octets of any length but 0, used unchanged.

    crypto/entropy.py judges whether it can be guessed.
    """

    secret: Secret

    @classmethod
    def load(cls, content: Secret) -> Self:
        """Make a key from a file's content: octets, or 0x and hex digits (RFC 7296, 2.15 wants
        both).

        Raises CredentialError.
        """
        octets = content.reveal()
        label = pem_label(octets)
        if label:
            raise CredentialError(f'this is a {label.lower()} in PEM, not a pre-shared key')
        if not octets.startswith(_HEX_PREFIX):
            return cls(content)
        try:
            return cls(Secret(bytes.fromhex(octets.removeprefix(_HEX_PREFIX).decode('ascii'))))
        except ValueError:
            raise CredentialError('the pre-shared key begins with 0x but is not hex') from None

    def __post_init__(self) -> None:
        if not len(self.secret):
            raise CredentialError('the pre-shared key is empty')


LocalCredential = PresharedKey | PrivateKey | CertifiedKey
PeerCredential = PresharedKey | PublicKey | Fingerprint | TrustAnchors


def signed_octets(
    prf_id: int,
    message: bytes,
    nonce: bytes,
    sk_p: Secret,
    identification: IdentificationPayload,
    intermediate: bytes = b'',
) -> bytes:
    """Return InitiatorSignedOctets or ResponderSignedOctets (RFC 7296, 2.15).

    `message` is the signer's last IKE_SA_INIT message unchanged from the wire, from the first octet
    of the SPIs; `nonce` the other side's; `sk_p` the signer's SK_pi or SK_pr; `identification` the
    signer's ID payload as sent; `intermediate` IntAuth (RFC 9242, 3.3.2).
    """
    maced_id = prf(prf_id, sk_p, identification.encode_body())
    return message + nonce + maced_id + intermediate


def make_auth(
    credential: LocalCredential,
    prf_id: int,
    octets: bytes,
    peer_hashes: Collection[int],
    announced: Collection[bytes] = (),
) -> AuthPayload:
    """Return our AUTH payload over our signed octets.

    `peer_hashes` is the content of the peer's SIGNATURE_HASH_ALGORITHMS, empty if none was sent;
    `announced` the AlgorithmIdentifiers of its SUPPORTED_AUTH_METHODS, if there was one. Raises
    AuthenticationFailed if the peer can't verify signatures of our key.
    """
    if isinstance(credential, PresharedKey):
        return AuthPayload(AuthMethod.SHARED_KEY_MIC, _shared_key_mic(credential, prf_id, octets))
    key = credential.key if isinstance(credential, CertifiedKey) else credential
    return AuthPayload(*key.sign(octets, peer_hashes, announced))


def verify_auth(
    credential: PeerCredential,
    prf_id: int,
    octets: bytes,
    auth: AuthPayload,
    received: Sequence[CertificatePayload] = (),
    *,
    peer_hashes: Collection[int] = (),
    identity: Identity | None = None,
    at: float | None = None,
) -> float | None:
    """Check the peer's AUTH payload over its signed octets.

    Returns when the proof ends, in seconds since the epoch; None if it never ends.

    `received` are the peer's CERT payloads; they count only where the credential is a fingerprint
    or trust anchors. `peer_hashes` is the content of its SIGNATURE_HASH_ALGORITHMS. Trust anchors
    need the `identity` that the peer claims and the time `at` in seconds since the epoch. Raises
    AuthenticationFailed, also if the peer used another method than the configured one.
    """
    if isinstance(credential, PresharedKey):
        if auth.method != AuthMethod.SHARED_KEY_MIC:
            raise _other_method(auth, 'a pre-shared key')
        if not bytes_eq(_shared_key_mic(credential, prf_id, octets), auth.data):
            raise AuthenticationFailed('the pre-shared keys differ', ProofFault.PSK)
        return None
    if auth.method not in _SIGNATURES:
        raise _other_method(auth, 'a signature')
    if peer_hashes and auth.method != AuthMethod.DIGITAL_SIGNATURE:
        # RFC 7427, 3: both sides announced hashes, so this method MUST be used.
        raise _other_method(auth, f'method {AuthMethod.DIGITAL_SIGNATURE.value}')
    if isinstance(credential, TrustAnchors):
        if identity is None or at is None:
            raise ValueError('a certificate is judged for an identity and at a time')
        encoded = [c for c in received if c.encoding == CertificateEncoding.X509_SIGNATURE]
        lists = [c.data for c in received if c.encoding == CertificateEncoding.CRL]

        def possession(key: Any) -> None:
            verify_signature(key, auth.method, auth.data, octets)

        _, until = credential.prove(identity, [c.data for c in encoded], lists, at, possession)
        return until
    if isinstance(credential, Fingerprint):
        credential = _pinned(credential, received)
    credential.verify(auth.method, auth.data, octets)
    return None


_SIGNATURES = frozenset(
    (
        AuthMethod.RSA_DIGITAL_SIGNATURE,
        AuthMethod.ECDSA_SHA256_P256,
        AuthMethod.ECDSA_SHA384_P384,
        AuthMethod.ECDSA_SHA512_P521,
        AuthMethod.DIGITAL_SIGNATURE,
    )
)


def certificate_requests(credential: PeerCredential) -> tuple[CertificateRequestPayload, ...]:
    """Return the CERTREQ payloads to send, so that the peer's credential can be checked."""
    if isinstance(credential, Fingerprint):
        return (CertificateRequestPayload(CertificateEncoding.RAW_PUBLIC_KEY),)
    if isinstance(credential, TrustAnchors):
        encoding = CertificateEncoding.X509_SIGNATURE
        return (CertificateRequestPayload(encoding, credential.authorities),)
    return ()


def certificates(
    credential: LocalCredential, requests: Sequence[CertificateRequestPayload]
) -> tuple[CertificatePayload, ...]:
    """Return the CERT payloads that answer the peer's CERTREQ payloads.

    A certificate is sent whatever the peer asked for, since nothing can be proven without it (RFC
    7296, 3.7: a CERTREQ is a hint); a raw key only if the peer asked for it (RFC 7670, 3).
    """
    if isinstance(credential, PresharedKey):
        return ()
    wanted = {request.encoding for request in requests}
    raw = CertificateEncoding.RAW_PUBLIC_KEY in wanted
    if isinstance(credential, CertifiedKey):
        x509 = CertificateEncoding.X509_SIGNATURE
        if x509 in wanted or not raw:
            authorities = b''.join(r.authorities for r in requests if r.encoding == x509)
            return tuple(
                CertificatePayload(x509, certificate)
                for certificate in credential.chain_for(authorities)
            )
        credential = credential.key
    if not raw:
        return ()
    spki = credential.public_key.spki
    return (CertificatePayload(CertificateEncoding.RAW_PUBLIC_KEY, spki),)


def signature_hashes() -> NotifyPayload:
    """Return our SIGNATURE_HASH_ALGORITHMS (RFC 7427, 4), for IKE_SA_INIT."""
    return _SIGNATURE_HASHES


_SIGNATURE_HASHES: Final = NotifyPayload(
    NotifyType.SIGNATURE_HASH_ALGORITHMS,
    b''.join(number.to_bytes(2, 'big') for number in SUPPORTED_HASHES),
)


def read_signature_hashes(notify: NotifyPayload | None) -> frozenset[int]:
    """Return the peer's hash algorithms; none without the notify. Raises MalformedMessage."""
    data = notify.data if notify else b''
    if len(data) % 2:
        raise MalformedMessage('SIGNATURE_HASH_ALGORITHMS with half a number')
    return frozenset(int.from_bytes(data[i : i + 2], 'big') for i in range(0, len(data), 2))


def _shared_key_mic(credential: PresharedKey, prf_id: int, octets: bytes) -> bytes:
    padded = Secret(prf(prf_id, credential.secret, _KEY_PAD))
    mic = prf(prf_id, padded, octets)
    padded.wipe()
    return mic


def _other_method(auth: AuthPayload, wanted: str) -> AuthenticationFailed:
    return AuthenticationFailed(
        f'the peer authenticates by method {auth.method}, {wanted} is configured',
        ProofFault.METHOD,
    )


def _pinned(fingerprint: Fingerprint, received: Sequence[CertificatePayload]) -> PublicKey:
    """Return the key that the peer sent.

    Raises AuthenticationFailed if it is not the pinned one.
    """
    keys = [c.data for c in received if c.encoding == CertificateEncoding.RAW_PUBLIC_KEY]
    if not keys:
        raise AuthenticationFailed('the peer sent no raw public key')
    # Only the first may hold the key that AUTH is checked with (RFC 7296, 3.6).
    key = PublicKey(keys[0])
    if not bytes_eq(key.fingerprint.digest, fingerprint.digest):
        raise AuthenticationFailed("the peer's public key has another fingerprint")
    return key
