"""A MAC with everything prepared that stays the same is the MAC of the published vectors."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keymaterial import Secret
from tcpao.kdf import KmacUnavailableError, derive_traffic_key
from tcpao.mkt import ALGORITHMS
from tcpao.userspace.wire.signing import mac_function, supported
from tcpao.verification.mac import compute_mac
from tests.tcpao.verification.test_vectors import DRAFT_ALGS, RFC_9235, Vector, octets, suite

ALL = [
    pytest.param(v, id=f'{source}-{v["section"]}')
    for source, vectors in (('rfc9235', RFC_9235), ('draft07', DRAFT_ALGS))
    for v in vectors
]


@pytest.mark.parametrize('vector', ALL)
def test_mac_is_that_of_the_vector(vector: Vector) -> None:
    message = octets(vector, 'mac_message_hex')
    # SNE and addresses, and for IPv4 the protocol.
    prefix = (
        4 + 2 * (4 if vector['ip_version'] == 4 else 16) + (2 if vector['ip_version'] == 4 else 0)
    )
    mac = mac_function(
        suite(vector),
        Secret(octets(vector, 'master_key_hex')),
        octets(vector, 'kdf_context_hex'),
        int.from_bytes(message[:4], 'big'),
        message[4:prefix],
    )
    assert mac(message[prefix:]) == octets(vector, 'mac_hex')
    assert mac(message[prefix:]) == octets(vector, 'mac_hex'), 'and again: nothing is used up'


@given(
    st.sampled_from(sorted(ALGORITHMS)),
    st.binary(min_size=1, max_size=80),
    st.binary(max_size=64),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=100),
)
def test_mac_is_the_one_that_verification_computes(
    name: str, secret: bytes, context: bytes, sne: int, rest: bytes
) -> None:
    algorithm, master = ALGORITHMS[name], Secret(secret)
    expected = compute_mac(
        algorithm,
        derive_traffic_key(algorithm, master, context),
        sne.to_bytes(4, 'big') + b'addresses' + rest,
    )
    assert mac_function(algorithm, master, context, sne, b'addresses')(rest) == expected


def test_every_suite_works_with_the_extra() -> None:
    assert supported() == set(ALGORITHMS)


def test_kmac_is_missing_when_there_is_no_pycryptodome(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith('Crypto')]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'Crypto', None)
    supported.cache_clear()
    try:
        assert supported() == set(ALGORITHMS) - {'kmac256-128'}
        mac = mac_function(ALGORITHMS['hmac-sha-1-96'], Secret(b'k'), b'', 0, b'')
        assert len(mac(b'')) == 12
        with pytest.raises(KmacUnavailableError):
            mac_function(ALGORITHMS['kmac256-128'], Secret(b'k'), b'', 0, b'')
    finally:
        supported.cache_clear()
