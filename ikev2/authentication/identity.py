"""Identities as peers claim them and operators write them (RFC 7296, 3.5).

Identities are equal if type and octets are equal, except that domain names are compared without
case, and distinguished names by RFC 5280, 7.1 (RFC 4945, 3.1). Whether a certificate or key may
speak for an identity is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Self

from cryptography import x509

from ikev2.authentication.names import canonical_dn, canonical_domain, canonical_mailbox
from ikev2.constants import IdType
from ikev2.errors import LocalError
from ikev2.wire.payloads import IdentificationPayload, IdiPayload, IdrPayload

# Our limits; far above those of a name server or a mail system.
_LONGEST_NAME = 255
_LONGEST_SHOWN = 300


class IdentityError(LocalError):
    """An identity that an operator wrote is not valid for its kind."""


@dataclass(frozen=True, slots=True)
class Identity:
    """An ID type and its octets. `str()` gives it in an operator's words."""

    id_type: int
    data: bytes = field(compare=False)
    text: str = field(default='', compare=False)
    """The identity as an operator wrote it, since a dn may print in another form."""
    _same: Hashable = field(init=False, repr=False)
    """The value that is compared instead of the octets."""

    def __post_init__(self) -> None:
        object.__setattr__(self, '_same', _same(self.id_type, self.data))

    @classmethod
    def parse(cls, kind: str, value: str) -> Self:
        """Parse an identity of a configuration: `kind` is ip, fqdn, user-fqdn, key-id or dn.

        A key-id is text, or octets as 0x and hex digits; a dn is in the form of RFC 4514. Raises
        IdentityError.
        """
        parser = _PARSERS.get(kind)
        if parser is None:
            raise IdentityError(f'identity type {kind!r} is not one of {", ".join(_PARSERS)}')
        if not value:
            raise IdentityError(f'the {kind} identity is empty')
        id_type, data = parser(value)
        return cls(id_type, data, value if id_type == IdType.DER_ASN1_DN else '')

    @classmethod
    def of(cls, payload: IdentificationPayload) -> Self:
        """Return the identity that an IDi or IDr payload claims."""
        return cls(payload.id_type, payload.data)

    def as_idi(self) -> IdiPayload:
        """Return this identity as an IDi payload."""
        return IdiPayload(self.id_type, self.data)

    def as_idr(self) -> IdrPayload:
        """Return this identity as an IDr payload."""
        return IdrPayload(self.id_type, self.data)

    def __str__(self) -> str:
        kind, text = _words(self.id_type, self.data)
        return f'{kind} {self.text or text}'

    @property
    def brief(self) -> str:
        """Return the text of this identity, cut if long: a peer may claim whatever fits into a
        message.
        """
        text = str(self)
        return text if len(text) <= _LONGEST_SHOWN else f'{text[:_LONGEST_SHOWN]}...'


def _parse_ip(value: str) -> tuple[IdType, bytes]:
    try:
        address = ip_address(value)
    except ValueError:
        raise IdentityError(f'{value!r} is not an IP address') from None
    return (IdType.IPV4_ADDR if address.version == 4 else IdType.IPV6_ADDR), address.packed


def _parse_fqdn(value: str) -> tuple[IdType, bytes]:
    octets = _text('fqdn', value)
    if not octets.isascii() or b'@' in octets:
        raise IdentityError(f'{value!r} is not a domain name in ASCII')
    return IdType.FQDN, octets


def _parse_user_fqdn(value: str) -> tuple[IdType, bytes]:
    octets = _text('user-fqdn', value)
    user, at, domain = octets.rpartition(b'@')
    if not (user and at and domain):
        raise IdentityError(f'{value!r} is not of the form user@domain')
    return IdType.RFC822_ADDR, octets


def _parse_key_id(value: str) -> tuple[IdType, bytes]:
    if value.startswith('0x'):
        try:
            octets = bytes.fromhex(value[2:])
        except ValueError:
            raise IdentityError(f'{value!r} is not hex after its 0x') from None
        if not octets:
            raise IdentityError('the key-id identity is empty')
        return IdType.KEY_ID, octets
    return IdType.KEY_ID, value.encode()


def _parse_dn(value: str) -> tuple[IdType, bytes]:
    try:
        name = x509.Name.from_rfc4514_string(value)
    except ValueError:
        raise IdentityError(f'{value!r} is not a distinguished name as of RFC 4514') from None
    return IdType.DER_ASN1_DN, name.public_bytes()


_PARSERS = {
    'ip': _parse_ip,
    'fqdn': _parse_fqdn,
    'user-fqdn': _parse_user_fqdn,
    'key-id': _parse_key_id,
    'dn': _parse_dn,
}


def _text(kind: str, value: str) -> bytes:
    """Encode a name of RFC 7296, 3.5: no terminators, no characters that could garble a screen."""
    if len(value) > _LONGEST_NAME or not value.isprintable() or any(c.isspace() for c in value):
        raise IdentityError(f'the {kind} identity {value!r} is too long or has spaces in it')
    return value.encode()


def _same(id_type: int, data: bytes) -> Hashable:
    """Return a value that is equal for equal identities of one type; the octets if malformed."""
    if id_type == IdType.DER_ASN1_DN:
        return canonical_dn(data) or data
    if id_type == IdType.FQDN and data.isascii():
        return canonical_domain(data.decode('ascii'))
    if id_type == IdType.RFC822_ADDR and data.isascii():
        return canonical_mailbox(data.decode('ascii'))
    return data


def _words(id_type: int, data: bytes) -> tuple[str, str]:
    """Return kind and value; hex if the octets, which may be an attacker's, are not plain text."""
    if id_type in (IdType.IPV4_ADDR, IdType.IPV6_ADDR):
        if len(data) == (4 if id_type == IdType.IPV4_ADDR else 16):
            return 'ip', str(ip_address(data))
        return 'ip', f'0x{data.hex()}'
    if id_type == IdType.FQDN:
        return 'fqdn', _plain(data)
    if id_type == IdType.RFC822_ADDR:
        return 'user-fqdn', _plain(data)
    if id_type == IdType.KEY_ID:
        return 'key-id', _plain(data)
    if id_type == IdType.DER_ASN1_DN:
        return 'dn', _distinguished(data)
    return f'id-type-{id_type}', f'0x{data.hex()}'


def _distinguished(data: bytes) -> str:
    try:
        text = x509.Name.from_bytes(data).rfc4514_string()
    except (ValueError, TypeError):
        text = ''
    return text if text and text.isprintable() else f'0x{data.hex()}'


def _plain(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f'0x{data.hex()}'
    if text.isprintable() and not text.startswith('0x'):
        return text
    return f'0x{data.hex()}'
