"""Key exchange methods: RFC 8031, RFC 5903, RFC 3526 and the checks of RFC 6989."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikev2.constants import KeyExchangeId
from ikev2.crypto.key_exchange import GROUPS, SECURITY_BITS, KeyExchange, respond
from ikev2.crypto.modp import MODP_2048_PRIME, MODP_3072_PRIME, MODP_4096_PRIME
from ikev2.errors import InvalidKeyExchange, UnsupportedAlgorithm
from keymaterial import Secret

# The library warns that it will drop MODP groups one day; key_exchange.py says what then.
pytestmark = pytest.mark.filterwarnings('ignore:Diffie-Hellman over finite fields')

# (group, i, g^i, r, g^r, g^ir)
VECTORS = {
    'RFC 8031, appendix A': (
        KeyExchangeId.CURVE25519,
        '751fb430 8655b476 b6789b73 25f9ea8c ddd16a58 533ff6d9 e6000946 4a5f9d94',
        '48d5ddd4 061257ba 166fa3f9 bbdb74f1 a4e81c08 9384fa77 f790709f 0dfbc766',
        '0a546452 53290d60 ddadd0e0 30bacd9e 5501efdc 220755a1 e978f1b8 39a05688',
        '0be7c1f5 aad87d7e 44866267 3298a443 478b8597 45179eaf 564c79c0 ef6eee25',
        'c7495060 7a12327f 3204d94b 6825bfb0 68b7f831 9a9e3708 ed3d43ce 8130c950',
    ),
    'RFC 5903, 8.1': (
        KeyExchangeId.ECP_256,
        'C88F01F5 10D9AC3F 70A292DA A2316DE5 44E9AAB8 AFE84049 C62A9C57 862D1433',
        'DAD0B653 94221CF9 B051E1FE CA5787D0 98DFE637 FC90B9EF 945D0C37 72581180'
        '5271A046 1CDB8252 D61F1C45 6FA3E59A B1F45B33 ACCF5F58 389E0577 B8990BB3',
        'C6EF9C5D 78AE012A 011164AC B397CE20 88685D8F 06BF9BE0 B283AB46 476BEE53',
        'D12DFB52 89C8D4F8 1208B702 70398C34 2296970A 0BCCB74C 736FC755 4494BF63'
        '56FBF3CA 366CC23E 8157854C 13C58D6A AC23F046 ADA30F83 53E74F33 039872AB',
        'D6840F6B 42F6EDAF D13116E0 E1256520 2FEF8E9E CE7DCE03 812464D0 4B9442DE',
    ),
    'RFC 5903, 8.2': (
        KeyExchangeId.ECP_384,
        '099F3C70 34D4A2C6 99884D73 A375A67F 7624EF7C 6B3C0F16 0647B674 14DCE655'
        'E35B5380 41E649EE 3FAEF896 783AB194',
        '667842D7 D180AC2C DE6F74F3 7551F557 55C7645C 20EF73E3 1634FE72 B4C55EE6'
        'DE3AC808 ACB4BDB4 C88732AE E95F41AA'
        '9482ED1F C0EEB9CA FC498462 5CCFC23F 65032149 E0E144AD A0241815 35A0F38E'
        'EB9FCFF3 C2C947DA E69B4C63 4573A81C',
        '41CB0779 B4BDB85D 47846725 FBEC3C94 30FAB46C C8DC5060 855CC9BD A0AA2942'
        'E0308312 916B8ED2 960E4BD5 5A7448FC',
        'E558DBEF 53EECDE3 D3FCCFC1 AEA08A89 A987475D 12FD950D 83CFA417 32BC509D'
        '0D1AC43A 0336DEF9 6FDA41D0 774A3571'
        'DCFBEC7A ACF31964 72169E83 8430367F 66EEBE3C 6E70C416 DD5F0C68 759DD1FF'
        'F83FA401 42209DFF 5EAAD96D B9E6386C',
        '11187331 C279962D 93D60424 3FD592CB 9D0A926F 422E4718 7521287E 7156C5C4'
        'D6031355 69B9E9D0 9CF5D4A2 70F59746',
    ),
}
PRIMES = {
    KeyExchangeId.MODP_2048: MODP_2048_PRIME,
    KeyExchangeId.MODP_3072: MODP_3072_PRIME,
    KeyExchangeId.MODP_4096: MODP_4096_PRIME,
}
PUBLIC_LENGTHS = {
    KeyExchangeId.CURVE25519: 32,
    KeyExchangeId.ECP_256: 64,
    KeyExchangeId.ECP_384: 96,
    KeyExchangeId.MODP_2048: 256,
    KeyExchangeId.MODP_3072: 384,
    KeyExchangeId.MODP_4096: 512,
}


@pytest.mark.parametrize('source', VECTORS)
def test_key_exchange_matches_published_vectors(source: str) -> None:
    group, *octets = VECTORS[source]
    i, gi, r, gr, gir = (bytes.fromhex(value) for value in octets)
    initiator = KeyExchange.generate(group, Secret(i))
    assert initiator.public_value == gi
    assert initiator.shared_secret(gr).reveal() == gir
    public_value, secret = respond(group, gi, Secret(r))
    assert public_value == gr
    assert secret.reveal() == gir


@pytest.mark.parametrize('group', sorted(GROUPS))
def test_key_exchange_gives_both_roles_one_secret(group: int) -> None:
    initiator = KeyExchange.generate(group)
    public_value, secret = respond(group, initiator.public_value)
    assert initiator.group == group
    assert len(initiator.public_value) == len(public_value) == PUBLIC_LENGTHS[KeyExchangeId(group)]
    assert initiator.shared_secret(public_value) == secret


def test_security_bits_cover_every_group() -> None:
    assert SECURITY_BITS.keys() == GROUPS


@pytest.mark.parametrize('group', sorted(GROUPS))
def test_key_exchange_makes_fresh_key_pairs(group: int) -> None:
    assert KeyExchange.generate(group).public_value != KeyExchange.generate(group).public_value


@pytest.mark.parametrize('group', sorted(GROUPS))
@pytest.mark.parametrize('change', [-1, 1])
def test_key_exchange_refuses_value_of_another_length(group: int, change: int) -> None:
    length = PUBLIC_LENGTHS[KeyExchangeId(group)] + change
    with pytest.raises(InvalidKeyExchange, match='octets'):
        KeyExchange.generate(group).shared_secret(b'\x01' * length)


@pytest.mark.parametrize('group', sorted(GROUPS))
@given(st.data())
def test_key_exchange_accepts_or_blames_peer_when_value_any(
    group: int, data: st.DataObject
) -> None:
    length = PUBLIC_LENGTHS[KeyExchangeId(group)]
    value = data.draw(st.one_of(st.binary(min_size=length, max_size=length), st.binary()))
    # A short private key, for speed: what is tested is the peer's value.
    exchange = KeyExchange.generate(group, Secret(bytes(31) + b'\x05'))
    try:
        secret = exchange.shared_secret(value)
    except InvalidKeyExchange:
        return
    assert len(secret)


@pytest.mark.parametrize('value', ['00' * 32, '01' + '00' * 31, 'ec' + 'ff' * 30 + '7f'])
def test_x25519_refuses_values_of_small_order(value: str) -> None:
    # RFC 7748, 6.1: all of them give the all-zero secret.
    exchange = KeyExchange.generate(KeyExchangeId.CURVE25519)
    with pytest.raises(InvalidKeyExchange, match='small order'):
        exchange.shared_secret(bytes.fromhex(value))


def test_x25519_ignores_highest_bit() -> None:
    # RFC 8031, 3.2: mask it, and accept non-canonical values.
    peer = bytearray(KeyExchange.generate(KeyExchangeId.CURVE25519).public_value)
    exchange = KeyExchange.generate(KeyExchangeId.CURVE25519)
    plain = exchange.shared_secret(bytes(peer))
    peer[31] |= 0x80
    assert exchange.shared_secret(bytes(peer)) == plain


@pytest.mark.parametrize('group', [KeyExchangeId.ECP_256, KeyExchangeId.ECP_384])
def test_ecp_refuses_point_off_the_curve(group: int) -> None:
    # RFC 6989, 2.3.
    exchange = KeyExchange.generate(group)
    peer = bytearray(KeyExchange.generate(group).public_value)
    peer[-1] ^= 1
    with pytest.raises(InvalidKeyExchange, match='not on the curve'):
        exchange.shared_secret(bytes(peer))
    with pytest.raises(InvalidKeyExchange, match='not on the curve'):
        exchange.shared_secret(bytes(len(peer)))


@pytest.mark.parametrize('group', PRIMES)
@pytest.mark.parametrize('which', ['0', '1', 'p-1', 'p', 'p+1'])
def test_modp_refuses_values_out_of_range(group: KeyExchangeId, which: str) -> None:
    # RFC 6989, 2.1: 1 < r < p-1.
    prime = PRIMES[group]
    value = {'0': 0, '1': 1, 'p-1': prime - 1, 'p': prime, 'p+1': prime + 1}[which]
    length = PUBLIC_LENGTHS[group]
    with pytest.raises(InvalidKeyExchange, match='range'):
        KeyExchange.generate(group).shared_secret(value.to_bytes(length, 'big'))


@pytest.mark.parametrize('group', PRIMES)
def test_modp_values_are_as_long_as_the_prime(group: KeyExchangeId) -> None:
    # RFC 7296, 2.14 and 3.4: zeros in front. 3^5 leaves nearly all of them zero.
    exchange = KeyExchange.generate(group, Secret(b'\x05'))
    length = PUBLIC_LENGTHS[group]
    assert exchange.public_value == (2**5).to_bytes(length, 'big')
    secret = exchange.shared_secret((3).to_bytes(length, 'big'))
    assert secret.reveal() == (3**5).to_bytes(length, 'big')


@pytest.mark.parametrize(
    ('group', 'bits', 'constant'),
    [
        # RFC 3526, 3 to 5: 2^n - 2^(n-64) - 1 + 2^64 * ([2^(n-130) pi] + constant)
        (KeyExchangeId.MODP_2048, 2048, 124476),
        (KeyExchangeId.MODP_3072, 3072, 1690314),
        (KeyExchangeId.MODP_4096, 4096, 240904),
    ],
)
def test_modp_primes_match_rfc(group: KeyExchangeId, bits: int, constant: int) -> None:
    pi = (_pi(bits + 64) >> (64 + 130)) + constant
    assert PRIMES[group] == 2**bits - 2 ** (bits - 64) - 1 + 2**64 * pi


def _pi(bits: int) -> int:
    """floor(2^bits * pi), by Machin's formula with some guard bits."""
    guard = 32

    def arctan_of_inverse(x: int) -> int:
        term = (1 << (bits + guard)) // x
        total, n, sign = term, 3, -1
        while term:
            term //= x * x
            total += sign * (term // n)
            n, sign = n + 2, -sign
        return total

    return 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239)) >> guard


@pytest.mark.parametrize('group', [0, 2, 5, KeyExchangeId.ML_KEM_512, 65535])
def test_key_exchange_blames_us_when_group_is_unsupported(group: int) -> None:
    with pytest.raises(UnsupportedAlgorithm):
        KeyExchange.generate(group)
