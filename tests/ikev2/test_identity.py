"""Identities: RFC 7296, 3.5, and an operator's words for them."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from ikev2.authentication.identity import Identity, IdentityError
from ikev2.authentication.names import canonical_name
from ikev2.constants import IdType
from ikev2.errors import LocalError
from ikev2.wire.payloads import IdiPayload


@pytest.mark.parametrize(
    ('kind', 'value', 'id_type', 'data', 'printed'),
    [
        ('ip', '192.0.2.1', 1, b'\xc0\x00\x02\x01', 'ip 192.0.2.1'),
        ('ip', '2001:db8::1', 5, b'\x20\x01\x0d\xb8' + bytes(11) + b'\x01', 'ip 2001:db8::1'),
        ('fqdn', 'r1.lab', 2, b'r1.lab', 'fqdn r1.lab'),
        ('user-fqdn', 'noc@r1.lab', 3, b'noc@r1.lab', 'user-fqdn noc@r1.lab'),
        ('key-id', 'router one', 11, b'router one', 'key-id router one'),
        ('key-id', '0x00ff', 11, b'\x00\xff', 'key-id 0x00ff'),
        (
            'dn',
            'CN=r1,O=lab',
            9,
            bytes.fromhex('301b310c300a060355040a0c036c6162310b300906035504030c027231'),
            'dn CN=r1,O=lab',
        ),
    ],
)
def test_identity_parses_encodes_and_prints(
    kind: str, value: str, id_type: int, data: bytes, printed: str
) -> None:
    identity = Identity.parse(kind, value)
    assert (identity.id_type, identity.data) == (id_type, data)
    assert str(identity) == printed


@pytest.mark.parametrize(
    ('kind', 'value'),
    [
        ('fqdn', ''),
        ('fqdn', 'r1 lab'),
        ('fqdn', 'r1.lab\n'),
        ('fqdn', 'noc@r1.lab'),
        ('fqdn', 'r\u00e9.lab'),
        ('fqdn', 'x' * 256),
        ('ip', 'r1.lab'),
        ('ip', '192.0.2.0/24'),
        ('ip', '192.0.2.256'),
        ('user-fqdn', 'r1.lab'),
        ('user-fqdn', '@r1.lab'),
        ('user-fqdn', 'noc@'),
        ('key-id', ''),
        ('key-id', '0x'),
        ('key-id', '0xfg'),
        ('key-id', '0xf'),
        ('dn', 'r1'),
        ('dn', ''),
        ('name', 'r1'),
    ],
)
def test_identity_parse_refuses_impossible_values(kind: str, value: str) -> None:
    with pytest.raises(IdentityError) as caught:
        Identity.parse(kind, value)
    assert isinstance(caught.value, LocalError)


def test_identity_equality_is_by_type_and_octets() -> None:
    assert Identity.parse('fqdn', 'r1.lab') == Identity(IdType.FQDN, b'r1.lab')
    assert Identity.parse('fqdn', 'r1.lab') != Identity.parse('key-id', 'r1.lab')
    assert Identity.parse('fqdn', 'r1.lab') != Identity(IdType.FQDN, b'r1.lab\0')
    assert Identity.parse('key-id', 'r1') != Identity.parse('key-id', 'R1')
    assert Identity(IdType.FQDN, b'\xc3\x84') != Identity(IdType.FQDN, b'\xc3\xa4')


def test_identity_ignores_case_of_domain_names() -> None:
    # RFC 4945, 3.1.2 and 3.1.3; RFC 5280, 7.2 and 7.5: the local part of a mail address isn't.
    assert Identity.parse('fqdn', 'r1.lab') == Identity.parse('fqdn', 'R1.Lab')
    assert hash(Identity.parse('fqdn', 'r1.lab')) == hash(Identity.parse('fqdn', 'R1.Lab'))
    assert Identity.parse('user-fqdn', 'noc@r1.lab') == Identity.parse('user-fqdn', 'noc@R1.LAB')
    assert Identity.parse('user-fqdn', 'noc@r1.lab') != Identity.parse('user-fqdn', 'NOC@r1.lab')


def test_identity_ignores_string_type_and_spacing_of_dn() -> None:
    # RFC 5280, 7.1. As strongSwan encodes it: PrintableString where that is possible.
    printable = bytes.fromhex('301b310c300a060355040a13036c6162310b300906035504031302 7231')
    other = bytes.fromhex('301b310c300a060355040a13036c6162310b300906035504031302 7232')
    configured = Identity.parse('dn', 'CN=r1,O=lab')
    assert Identity(IdType.DER_ASN1_DN, printable) == configured
    assert Identity.parse('dn', 'CN=R1,O=LAB') == configured
    assert Identity.parse('dn', 'O=the  big lab') == Identity.parse('dn', 'O=The Big Lab')
    assert Identity(IdType.DER_ASN1_DN, other) != configured
    assert Identity.parse('dn', 'O=lab,CN=r1') != configured
    assert Identity.parse('dn', 'CN=r1+O=lab') != configured


@given(st.binary(max_size=60))
def test_identity_compares_octets_when_dn_is_malformed(octets: bytes) -> None:
    claimed = Identity(IdType.DER_ASN1_DN, octets)
    assert claimed != Identity.parse('dn', 'CN=r1,O=lab')
    assert claimed == Identity(IdType.DER_ASN1_DN, octets)


def test_identity_prints_dn_in_words() -> None:
    assert str(Identity(IdType.DER_ASN1_DN, Identity.parse('dn', 'CN=r1,O=lab').data)) == (
        'dn CN=r1,O=lab'
    )


def test_identity_from_wire_equals_configured_one() -> None:
    configured = Identity.parse('dn', 'CN=r1,O=lab')
    assert Identity.of(IdiPayload(configured.id_type, configured.data)) == configured
    assert hash(Identity(configured.id_type, configured.data)) == hash(configured)


def test_identity_makes_either_payload() -> None:
    identity = Identity.parse('fqdn', 'r1.lab')
    assert identity.as_idi().encode(0) == bytes.fromhex('00 00 000e 02 000000') + b'r1.lab'
    assert identity.as_idi().payload_type == 35
    assert identity.as_idr().payload_type == 36
    assert Identity.of(identity.as_idr()) == identity


@given(st.integers(0, 255), st.binary(max_size=40))
def test_identity_of_peer_prints_on_one_plain_line(id_type: int, data: bytes) -> None:
    text = str(Identity(id_type, data))
    assert text.isprintable()


@pytest.mark.parametrize(
    ('id_type', 'data', 'printed'),
    [
        (IdType.FQDN, b'r1\x1b[2J', 'fqdn 0x72311b5b324a'),
        (IdType.FQDN, b'\xff', 'fqdn 0xff'),
        (IdType.IPV4_ADDR, b'\x01', 'ip 0x01'),
        (IdType.KEY_ID, b'0xab', 'key-id 0x30786162'),
        (IdType.DER_ASN1_DN, b'0', 'dn 0x30'),
        (13, b'', 'id-type-13 0x'),
    ],
)
def test_identity_prints_hex_when_octets_are_no_text(
    id_type: int, data: bytes, printed: str
) -> None:
    assert str(Identity(id_type, data)) == printed


def test_identity_compares_octets_inside_dn() -> None:
    def named(octets: bytes) -> x509.Name:
        return x509.Name(
            [x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, octets, _ASN1Type.BitString)]
        )

    assert canonical_name(named(b'Aa')) == canonical_name(named(b'Aa'))
    assert canonical_name(named(b'Aa')) != canonical_name(named(b'AA'))
