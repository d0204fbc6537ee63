"""Descriptions of IKE messages for a probe's reader. No secrets, and bounded in length.

An unauthenticated peer may be an attacker: its claims are reported, never believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum

from ikev2.authentication.signatures.keys import PublicKey
from ikev2.authentication.signatures.schemes import SCHEMES
from ikev2.authentication.x509.certificates import Certificate, CertificateError
from ikev2.constants import (
    VENDOR_ID,
    AttributeType,
    AuthMethod,
    CertificateEncoding,
    EncryptionId,
    IntegrityId,
    KeyExchangeId,
    NotifyType,
    PrfId,
    ProtocolId,
    TransformType,
)
from ikev2.crypto.cipher import ENCRYPTIONS
from ikev2.errors import CredentialError
from ikev2.proposals.ike import ADDITIONAL
from ikev2.proposals.rp import offered_suites
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import (
    AuthPayload,
    CertificatePayload,
    NotifyPayload,
    VendorIdPayload,
)
from ikev2.wire.payloads_sa import Proposal, SaPayload, Transform
from ikev2.wire.words import notify_name

_MOST_NAMES = 12
"""Names in one list: a peer may send hundreds."""
_LONGEST_DATA = 32
"""Octets that are shown in hex."""

_TRANSFORMS: dict[int, tuple[str, type[IntEnum]]] = {
    TransformType.ENCR: ('encryption', EncryptionId),
    TransformType.PRF: ('prf', PrfId),
    TransformType.INTEG: ('integrity', IntegrityId),
    TransformType.KE: ('key exchange', KeyExchangeId),
    **dict.fromkeys(ADDITIONAL, ('additional key exchange', KeyExchangeId)),
}
_METHODS = {
    AuthMethod.RSA_DIGITAL_SIGNATURE: 'an RSA signature (PKCS #1)',
    AuthMethod.SHARED_KEY_MIC: 'a pre-shared key',
    AuthMethod.ECDSA_SHA256_P256: 'an ECDSA signature (P-256)',
    AuthMethod.ECDSA_SHA384_P384: 'an ECDSA signature (P-384)',
    AuthMethod.ECDSA_SHA512_P521: 'an ECDSA signature (P-521)',
    AuthMethod.NULL: 'nothing (NULL authentication)',
}
# Notifies that every IKE_SA_INIT has, or that are described separately.
_UNREMARKABLE = frozenset(
    {
        NotifyType.NAT_DETECTION_SOURCE_IP,
        NotifyType.NAT_DETECTION_DESTINATION_IP,
        NotifyType.COOKIE,
        NotifyType.INVALID_KE_PAYLOAD,
        NotifyType.MKT_LIFETIME,
    }
)


def listed(names: Iterable[str], between: str = ', ') -> str:
    """Return the names, each once, with a limit."""
    found = list(dict.fromkeys(names))
    more = len(found) - _MOST_NAMES
    return between.join(found[:_MOST_NAMES]) + (f' and {more} more' if more > 0 else '')


def method_name(group: int) -> str:
    """Return the name of a key exchange method."""
    return _name(KeyExchangeId, group, 'method')


def proposals(payload: SaPayload) -> str:
    """Return the offers of an SA payload, or (with one transform of each type) the choice."""
    if all(proposal.protocol == ProtocolId.TCP_AO for proposal in payload.proposals):
        return _rp(payload)
    return '; or '.join(_ike(proposal) for proposal in payload.proposals[:_MOST_NAMES])


def authentication(payload: AuthPayload) -> str:
    """Return how an AUTH payload proves an identity."""
    if payload.method == AuthMethod.DIGITAL_SIGNATURE:
        length = payload.data[0] if payload.data else 0
        identifier = payload.data[1 : 1 + length]
        names = [scheme.name for scheme in SCHEMES if identifier in scheme.identifiers]
        return f'a signature ({names[0] if names else "of an unknown algorithm"}, RFC 7427)'
    return next(
        (text for method, text in _METHODS.items() if method == payload.method),
        f'method {payload.method}',
    )


def certificates(payloads: Sequence[CertificatePayload]) -> str:
    """Return the kinds of the CERT payloads; for a raw key its fingerprint."""
    return listed(map(_certificate, payloads))


def notifies(payloads: Sequence[Payload]) -> str:
    """Return the notifies worth mentioning."""
    return listed(
        notify_name(payload.notify_type)
        for payload in payloads
        if isinstance(payload, NotifyPayload) and payload.notify_type not in _UNREMARKABLE
    )


def vendors(payloads: Sequence[Payload]) -> str:
    """Return the Vendor IDs; ours by its meaning."""
    return listed(
        'this profile' if payload.vendor_id == VENDOR_ID else _hex(payload.vendor_id)
        for payload in payloads
        if isinstance(payload, VendorIdPayload)
    )


def speaks_profile(payloads: Sequence[Payload]) -> bool:
    """Return True if our Vendor ID is among the payloads."""
    return any(isinstance(p, VendorIdPayload) and p.vendor_id == VENDOR_ID for p in payloads)


def _ike(proposal: Proposal) -> str:
    kinds: dict[str, list[str]] = {}
    for transform in proposal.transforms:
        kind, name = _transform(transform)
        kinds.setdefault(kind, []).append(name)
    return ', '.join(f'{kind} {listed(names, " or ")}' for kind, names in kinds.items())


def _transform(transform: Transform) -> tuple[str, str]:
    kind, names = _TRANSFORMS.get(transform.transform_type, (None, None))
    if kind is None or names is None:
        return f'transform type {transform.transform_type}', str(transform.transform_id)
    if transform.transform_type != TransformType.ENCR:
        return kind, _name(names, transform.transform_id, 'number')
    bits = next(
        (a.value for a in transform.attributes if a.attribute_type == AttributeType.KEY_LENGTH),
        None,
    )
    for known in ENCRYPTIONS.values():
        # With CBC the integrity algorithm is a separate transform.
        if known.aead and (known.encr, known.key_bits) == (transform.transform_id, bits):
            return kind, known.name
    name = _name(names, transform.transform_id, 'number')
    return kind, f'{name}-{bits}' if isinstance(bits, int) else name


def _rp(payload: SaPayload) -> str:
    suites = offered_suites(payload)
    covered = {options for _, options in suites}
    words = {True: 'included', False: 'excluded'}
    options = ' or '.join(words[one] for one in sorted(covered, reverse=True))
    exchanges = listed(
        _name(KeyExchangeId, transform.transform_id, 'method')
        for proposal in payload.proposals
        for transform in proposal.transforms
        if transform.transform_type in (TransformType.KE, *ADDITIONAL)
    )
    return (
        f'{listed(name for name, _ in suites) or "nothing known"}, tcp-options {options or "?"}, '
        f'key exchange {exchanges or "none"}'
    )


def _certificate(payload: CertificatePayload) -> str:
    if payload.encoding == CertificateEncoding.X509_SIGNATURE:
        try:
            return f'certificate of {Certificate.read(payload.data).name}'
        except CertificateError as error:
            return f'a certificate that cannot be used ({error})'
    if payload.encoding == CertificateEncoding.RAW_PUBLIC_KEY:
        try:
            return f'raw key {PublicKey.load(payload.data).fingerprint}'
        except CredentialError:
            return 'a raw key that cannot be used'
    return _name(CertificateEncoding, payload.encoding, 'encoding')


def _name(names: type[IntEnum], number: int, kind: str) -> str:
    try:
        return names(number).name.lower().replace('_', '-')
    except ValueError:
        return f'{kind} {number}'


def _hex(octets: bytes) -> str:
    return octets[:_LONGEST_DATA].hex() + ('...' if len(octets) > _LONGEST_DATA else '')
