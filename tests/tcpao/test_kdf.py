"""Properties of the KDFs that the published vectors don't show."""

from __future__ import annotations

import hashlib
import hmac
import sys

import pytest

from keymaterial import Secret
from tcpao.kdf import KmacUnavailableError, derive_traffic_key
from tcpao.mkt import ALGORITHMS

CONTEXT = bytes(range(20))


@pytest.mark.parametrize('name', ['hmac-sha-256-96', 'hmac-sha-256-128'])
def test_linux_sha256_is_rfc_5926_counter_mode(name: str) -> None:
    # RFC 5926 3.1.1 with SHA-256 and Output_Length 256 (draft-nayak-tcp-sha2-03), written out.
    block = b'\x01TCP-AO' + CONTEXT + b'\x01\x00'
    expected = hmac.new(b'master', block, hashlib.sha256).digest()
    assert derive_traffic_key(ALGORITHMS[name], Secret(b'master'), CONTEXT).reveal() == expected


def test_hmac_sha256_128_suites_differ() -> None:
    keys = [
        derive_traffic_key(ALGORITHMS[name], Secret(bytes(32)), CONTEXT).reveal()
        for name in ('hmac-sha-256-128', 'hmac-sha256-128-hkdf')
    ]
    assert keys[0] != keys[1]


def test_kmac_names_the_package_when_pycryptodome_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, 'Crypto.Hash', None)
    with pytest.raises(KmacUnavailableError, match='exabgp-gatekeeper'):
        derive_traffic_key(ALGORITHMS['kmac256-128'], Secret(bytes(32)), CONTEXT)


@pytest.mark.parametrize('name', ALGORITHMS)
def test_every_algorithm_has_a_kdf_and_a_secret_comes_out(name: str) -> None:
    key = derive_traffic_key(ALGORITHMS[name], Secret(b'm' * 32), CONTEXT)
    assert isinstance(key, Secret)
    assert len(key) == ALGORITHMS[name].key_length
