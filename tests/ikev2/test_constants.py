"""The numbers of the private profile, and that no two of one space collide."""

from __future__ import annotations

import enum
from hashlib import sha256

import pytest

from ikev2 import constants
from ikev2.constants import (
    IMPLIED_KDF,
    RP_SUITES,
    VENDOR_ID,
    IntegrityId,
    NotifyType,
    ProtocolId,
    TcpAoKdfId,
    TransformType,
)

REGISTRIES = [
    value
    for value in vars(constants).values()
    if isinstance(value, type) and issubclass(value, enum.IntEnum) and value.__members__
]


def test_vendor_id_is_beginning_of_hash() -> None:
    assert sha256(b'IKEv2 RP SA for TCP-AO, profile 1').digest()[:16] == VENDOR_ID


@pytest.mark.parametrize('registry', REGISTRIES, ids=lambda registry: registry.__name__)
def test_registries_name_each_number_once(registry: type[enum.IntEnum]) -> None:
    assert len(registry.__members__) == len({int(member) for member in registry})


def test_private_numbers_are_in_private_ranges() -> None:
    # IANA, "Internet Key Exchange Version 2 (IKEv2) Parameters".
    assert 201 <= ProtocolId.TCP_AO <= 255
    assert 241 <= TransformType.TCP_OPTIONS <= 255
    assert 241 <= TransformType.TCP_AO_KDF <= 255
    assert IntegrityId.KMAC256_128 >= 1024
    assert IntegrityId.HMAC_SHA2_256_96 >= 1024
    assert 8192 <= NotifyType.KEYID_IN_USE <= 16383
    assert 40960 <= NotifyType.MKT_LIFETIME <= 65535
    assert 40960 <= NotifyType.SESSION_ID <= 65535


@pytest.mark.parametrize(
    ('name', 'integ', 'kdf', 'length'),
    [
        ('hmac-sha-1-96', 2, 1, 20),
        ('aes-128-cmac-96', 8, 2, 16),
        ('hmac-sha-256-96', 1025, 5, 32),
        ('hmac-sha-256-128', 12, 5, 32),
        ('hmac-sha256-128-hkdf', 12, 3, 32),
        ('kmac256-128', 1024, 4, 32),
    ],
)
def test_rp_suites_match_wire_profile(name: str, integ: int, kdf: int, length: int) -> None:
    assert RP_SUITES[name] == (integ, kdf, length)


def test_implied_kdf_exists_only_for_rfc_5926() -> None:
    assert IMPLIED_KDF == {
        IntegrityId.HMAC_SHA1_96: TcpAoKdfId.KDF_HMAC_SHA1,
        IntegrityId.AES_CMAC_96: TcpAoKdfId.KDF_AES_128_CMAC,
    }
