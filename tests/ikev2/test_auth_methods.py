"""SUPPORTED_AUTH_METHODS: RFC 9593."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikev2.authentication.announcements import announce, read_announcements
from ikev2.authentication.auth import PresharedKey, PrivateKey
from ikev2.authentication.signatures.schemes import SCHEMES
from ikev2.constants import NotifyType
from ikev2.errors import MalformedMessage
from ikev2.wire.payloads import NotifyPayload
from keymaterial import Secret
from tests.ikev2.pki import keys, root


def notify(octets: str) -> NotifyPayload:
    return NotifyPayload(NotifyType.SUPPORTED_AUTH_METHODS, bytes.fromhex(octets))


def test_announce_names_method_alone_for_psk() -> None:
    # RFC 9593, 3.2.1: length 2, method.
    assert announce(PresharedKey(Secret(b'x'))) == notify('02 02')


def test_announce_names_algorithms_of_known_key() -> None:
    # RFC 9593, 3.2.3: length, method 14, Cert Link 0, AlgorithmIdentifier.
    ed25519 = PrivateKey(keys('ed25519')).public_key
    assert announce(ed25519) == notify('0a 0e 00 300506032b6570')
    p384 = PrivateKey(keys('ecdsa-p384')).public_key
    assert announce(p384) == notify(
        '0f 0e 00 300a06082a8648ce3d040303'
        '0f 0e 00 300a06082a8648ce3d040304'
        '0f 0e 00 300a06082a8648ce3d040302'
    )


def test_announce_names_best_of_each_kind_when_key_is_open() -> None:
    announced = announce(root().trust())
    names = [
        scheme.name
        for identifier in read_announcements(announced)
        for scheme in SCHEMES
        if identifier in scheme.identifiers
    ]
    assert names == [
        'ed25519',
        'ed448',
        'ecdsa-sha256',
        'ecdsa-sha384',
        'ecdsa-sha512',
        'rsa-pss-sha256',
        'ml-dsa-44',
        'ml-dsa-65',
        'ml-dsa-87',
    ]
    fingerprint = PrivateKey(keys('ed25519')).public_key.fingerprint
    assert announce(fingerprint) == announced
    # It goes into IKE_SA_INIT, which can't be fragmented.
    assert len(announced.data) < 200


def test_peer_signs_by_announced_algorithm() -> None:
    key = PrivateKey(keys('rsa'))
    announced = read_announcements(announce(key.public_key))
    method, data = key.sign(b'octets', {2, 3, 4, 5}, announced)
    key.public_key.verify(method, data, b'octets')


def test_read_announcements_skips_other_methods() -> None:
    # A method alone, classic methods with a CA, an unknown one, one without algorithm.
    read = read_announcements(
        notify('02 02 02 0d 03 01 01 03 09 00 05 63 00 ffff 03 0e 00 0a 0e 02 300506032b6570')
    )
    assert read == (bytes.fromhex('300506032b6570'),)
    assert read_announcements(None) == ()
    assert read_announcements(notify('')) == ()


@pytest.mark.parametrize('octets', ['00', '01', '02', '03 0e', 'ff 0e 00 30', '02 02 05 0e 00 30'])
def test_read_announcements_refuses_wrong_lengths(octets: str) -> None:
    with pytest.raises(MalformedMessage):
        read_announcements(notify(octets))


@given(st.binary(max_size=80))
def test_read_announcements_returns_or_raises_when_octets_any(octets: bytes) -> None:
    try:
        read = read_announcements(NotifyPayload(NotifyType.SUPPORTED_AUTH_METHODS, octets))
    except MalformedMessage:
        return
    assert all(read)
