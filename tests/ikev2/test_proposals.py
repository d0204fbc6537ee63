"""Negotiation of IKE suites: RFC 7296, 2.7, 3.3.3 and 3.3.6; RFC 5282, 8."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from ikev2.constants import (
    EncryptionId,
    IntegrityId,
    KeyExchangeId,
    PrfId,
    ProtocolId,
    TransformType,
)
from ikev2.crypto.cipher import (
    AES_128_GCM_16,
    AES_256_CBC_HMAC_SHA2_256_128,
    AES_256_GCM_16,
    CHACHA20_POLY1305,
)
from ikev2.errors import InvalidAnswer, NoProposalChosen
from ikev2.proposals.ike import IkePolicy, IkeSuite, select_ike, verify_ike_answer
from ikev2.wire.payloads_sa import Attribute, Proposal, SaPayload, Transform
from tests.ikev2.strategies import sa_payloads

POLICY = IkePolicy()
BOTH_KINDS = IkePolicy(encryptions=(AES_256_CBC_HMAC_SHA2_256_128, AES_256_GCM_16))
GCM = Transform.make(TransformType.ENCR, EncryptionId.AES_GCM_16, 256)
CBC = Transform.make(TransformType.ENCR, EncryptionId.AES_CBC, 256)
PRF = Transform(TransformType.PRF, PrfId.HMAC_SHA2_256)
X25519 = Transform(TransformType.KE, KeyExchangeId.CURVE25519)
P256 = Transform(TransformType.KE, KeyExchangeId.ECP_256)
MODP = Transform(TransformType.KE, KeyExchangeId.MODP_2048)
SHA256_128 = Transform(TransformType.INTEG, IntegrityId.HMAC_SHA2_256_128)
NO_INTEG = Transform(TransformType.INTEG, IntegrityId.NONE)
GOOD = IkeSuite(AES_256_GCM_16, PrfId.HMAC_SHA2_256, KeyExchangeId.CURVE25519)


def sa(*transforms: Transform, number: int = 1, spi: bytes = b'') -> SaPayload:
    return SaPayload((Proposal(number, ProtocolId.IKE, spi, transforms),))


def test_default_offer_matches_octet_by_octet() -> None:
    assert POLICY.offer().encode_body().hex(' ', 4) == (
        bytes.fromhex(
            '0000 003c 01 01 00 06'
            '0300 000c 0100 0014 800e 0100'  # AES-GCM-16, 256 bits
            '0300 0008 0100 001c'  # ChaCha20-Poly1305
            '0300 0008 0200 0005'  # HMAC-SHA2-256
            '0300 0008 0400 001f'  # Curve25519
            '0300 0008 0400 0013'  # P-256
            '0000 0008 0400 000e'  # MODP-2048
        ).hex(' ', 4)
    )


def test_offer_separates_aead_and_cbc() -> None:
    # RFC 7296, 3.3: an AEAD with no integrity algorithm.
    combined, separate = BOTH_KINDS.offer().proposals
    assert combined.of_type(TransformType.ENCR) == (GCM,)
    assert combined.of_type(TransformType.INTEG) == ()
    assert separate.of_type(TransformType.ENCR) == (CBC,)
    assert separate.of_type(TransformType.INTEG) == (SHA256_128,)
    assert (combined.number, separate.number) == (1, 2)


def test_offered_suite_is_chosen_and_verified() -> None:
    offer = POLICY.offer()
    choice = select_ike(offer, POLICY, KeyExchangeId.CURVE25519)
    assert choice.suite == GOOD
    assert verify_ike_answer(offer, choice.answer(), POLICY).suite == GOOD


def test_rekey_offer_has_new_spis() -> None:
    offer = POLICY.offer(b'newspi_i')
    choice = select_ike(offer, POLICY, KeyExchangeId.CURVE25519, rekey=True)
    assert choice.peer_spi == b'newspi_i'
    answer = choice.answer(b'newspi_r')
    assert verify_ike_answer(offer, answer, POLICY, rekey=True).peer_spi == b'newspi_r'


@pytest.mark.parametrize('rekey', [False, True])
def test_select_ike_skips_spi_of_wrong_size(rekey: bool) -> None:
    spi = b'' if rekey else b'initiatr'
    with pytest.raises(NoProposalChosen):
        select_ike(sa(GCM, PRF, X25519, spi=spi), POLICY, None, rekey=rekey)


@pytest.mark.parametrize('rekey', [False, True])
def test_verify_answer_refuses_spi_of_wrong_size(rekey: bool) -> None:
    offer = POLICY.offer(b'newspi_i' if rekey else b'')
    answer = sa(GCM, PRF, X25519, spi=b'' if rekey else b'responde')
    with pytest.raises(InvalidAnswer, match='SPI'):
        verify_ike_answer(offer, answer, POLICY, rekey=rekey)


def test_select_ike_takes_ke_group_as_strong_as_wanted() -> None:
    offer = sa(GCM, PRF, X25519, P256)
    assert select_ike(offer, POLICY, KeyExchangeId.ECP_256).suite.group == KeyExchangeId.ECP_256


def test_select_ike_takes_stronger_ke_group() -> None:
    policy = IkePolicy(groups=(KeyExchangeId.CURVE25519, KeyExchangeId.ECP_384))
    chosen = select_ike(policy.offer(), policy, KeyExchangeId.ECP_384)
    assert chosen.suite.group == KeyExchangeId.ECP_384


def test_select_ike_refuses_weaker_ke_group() -> None:
    # The offer is in AUTH, but a KE payload may be in the group that an attacker demanded.
    assert select_ike(POLICY.offer(), POLICY, KeyExchangeId.MODP_2048).suite == GOOD


def test_select_ike_takes_weak_group_without_better_offer() -> None:
    offer = sa(GCM, PRF, MODP)
    assert select_ike(offer, POLICY, KeyExchangeId.MODP_2048).suite.group == MODP.transform_id


def test_select_ike_takes_acceptable_ke_group_in_rekey() -> None:
    # It comes under the keys of an IKE SA that has proved itself.
    offer = POLICY.offer(b'newspi_i')
    choice = select_ike(offer, POLICY, KeyExchangeId.MODP_2048, rekey=True)
    assert choice.suite.group == KeyExchangeId.MODP_2048


def test_select_ike_refuses_ke_group_outside_policy() -> None:
    offer = sa(GCM, PRF, X25519, Transform(TransformType.KE, 2))
    assert select_ike(offer, POLICY, 2).suite == GOOD


def test_select_ike_follows_our_order_within_proposal() -> None:
    chacha = Transform(TransformType.ENCR, EncryptionId.CHACHA20_POLY1305)
    assert select_ike(sa(chacha, GCM, PRF, X25519), POLICY, None).suite == GOOD


def test_select_ike_follows_peers_order_of_proposals() -> None:
    first = Proposal(1, ProtocolId.IKE, b'', (CBC, PRF, SHA256_128, X25519))
    second = Proposal(2, ProtocolId.IKE, b'', (GCM, PRF, X25519))
    choice = select_ike(SaPayload((first, second)), BOTH_KINDS, None)
    assert choice.suite.encryption == AES_256_CBC_HMAC_SHA2_256_128
    choice = select_ike(SaPayload((first, second)), POLICY, None)
    assert choice.suite == GOOD
    assert choice.answer().proposals[0].number == 2


@pytest.mark.parametrize('missing', [GCM, PRF, X25519])
def test_select_ike_needs_every_mandatory_type(missing: Transform) -> None:
    transforms = [t for t in (GCM, PRF, X25519) if t != missing]
    with pytest.raises(NoProposalChosen):
        select_ike(sa(*transforms), POLICY, None)


@pytest.mark.parametrize('kind', [5, 13, 99, 241])
def test_select_ike_skips_proposal_with_unknown_type(kind: int) -> None:
    # RFC 7296, 3.3.6: this proposal is unacceptable, others are processed as usual.
    spoiled = Proposal(1, ProtocolId.IKE, b'', (GCM, PRF, X25519, Transform(kind, 1)))
    good = Proposal(2, ProtocolId.IKE, b'', (GCM, PRF, X25519))
    with pytest.raises(NoProposalChosen):
        select_ike(SaPayload((spoiled,)), POLICY, None)
    assert select_ike(SaPayload((spoiled, good)), POLICY, None).proposal.number == 2


def test_select_ike_skips_transform_with_unknown_attribute() -> None:
    odd = Transform(TransformType.PRF, PrfId.HMAC_SHA2_256, (Attribute(99, 1),))
    with pytest.raises(NoProposalChosen):
        select_ike(sa(GCM, odd, X25519), POLICY, None)
    assert select_ike(sa(GCM, odd, PRF, X25519), POLICY, None).suite == GOOD


@pytest.mark.parametrize('key_bits', [None, 128, 192, 0])
def test_select_ike_needs_right_key_length(key_bits: int | None) -> None:
    # RFC 7296, 3.3.5: proposals that omit a mandatory Key Length MUST be rejected.
    other = Transform.make(TransformType.ENCR, EncryptionId.AES_GCM_16, key_bits)
    with pytest.raises(NoProposalChosen):
        select_ike(sa(other, PRF, X25519), POLICY, None)


def test_select_ike_refuses_key_length_of_chacha20() -> None:
    # RFC 7634, 4.
    odd = Transform.make(TransformType.ENCR, EncryptionId.CHACHA20_POLY1305, 256)
    with pytest.raises(NoProposalChosen):
        select_ike(sa(odd, PRF, X25519), POLICY, None)


def test_select_ike_takes_aead_with_integrity_none() -> None:
    offer = sa(GCM, PRF, NO_INTEG, X25519)
    choice = select_ike(offer, POLICY, None)
    assert choice.suite == GOOD
    assert NO_INTEG in choice.proposal.transforms


def test_select_ike_refuses_aead_with_integrity() -> None:
    with pytest.raises(NoProposalChosen):
        select_ike(sa(GCM, PRF, SHA256_128, X25519), POLICY, None)


def test_select_ike_needs_integrity_for_cbc() -> None:
    for integ in ((), (NO_INTEG,)):
        with pytest.raises(NoProposalChosen):
            select_ike(sa(CBC, PRF, *integ, X25519), BOTH_KINDS, None)


def test_select_ike_refuses_key_exchange_none() -> None:
    # RFC 7296, 2.18: a responder MUST NOT accept NONE in a rekey of an IKE SA.
    none = Transform(TransformType.KE, KeyExchangeId.NONE)
    with pytest.raises(NoProposalChosen):
        select_ike(sa(GCM, PRF, none), POLICY, None)


def test_select_ike_refuses_additional_exchange_without_none() -> None:
    # RFC 9370, 2.2.1.
    kem = Transform(TransformType.ADDKE1, KeyExchangeId.ML_KEM_768)
    none = Transform(TransformType.ADDKE1, KeyExchangeId.NONE)
    with pytest.raises(NoProposalChosen):
        select_ike(sa(GCM, PRF, X25519, kem), POLICY, None)
    choice = select_ike(sa(GCM, PRF, X25519, kem, none), POLICY, None)
    assert choice.proposal.transforms == (GCM, PRF, X25519, none)


def test_select_ike_skips_other_protocol() -> None:
    esp = Proposal(1, ProtocolId.ESP, b'1234', (GCM, PRF, X25519))
    with pytest.raises(NoProposalChosen):
        select_ike(SaPayload((esp,)), POLICY, None)


@given(sa_payloads)
def test_select_ike_chooses_or_refuses_any_offer(offer: SaPayload) -> None:
    with pytest.raises(NoProposalChosen):
        select_ike(offer, POLICY, None)


def answer_with(change: str) -> SaPayload:
    chosen = select_ike(BOTH_KINDS.offer(), BOTH_KINDS, None).answer().proposals[0]
    transforms = chosen.transforms
    swaps = {
        'another number': replace(chosen, number=2),
        'a number never offered': replace(chosen, number=3),
        'another protocol': replace(chosen, protocol=ProtocolId.ESP),
        'a transform missing': replace(chosen, transforms=transforms[:-1]),
        'no transforms': replace(chosen, transforms=()),
        'a transform twice': replace(chosen, transforms=(*transforms, transforms[-1])),
        'two groups': replace(chosen, transforms=(*transforms, P256)),
        'a group never offered': replace(
            chosen, transforms=(*transforms[:-1], Transform(TransformType.KE, 2))
        ),
        'a type never offered': replace(chosen, transforms=(*transforms, NO_INTEG)),
        'another key length': replace(
            chosen,
            transforms=(Transform.make(TransformType.ENCR, 20, 128), *transforms[1:]),
        ),
        'an attribute added': replace(
            chosen,
            transforms=(
                transforms[0],
                Transform(TransformType.PRF, 5, (Attribute(99, 1),)),
                *transforms[2:],
            ),
        ),
    }
    return SaPayload((swaps[change],))


@pytest.mark.parametrize(
    'change',
    [
        'another number',
        'a number never offered',
        'another protocol',
        'a transform missing',
        'no transforms',
        'a transform twice',
        'two groups',
        'a group never offered',
        'a type never offered',
        'another key length',
        'an attribute added',
    ],
)
def test_verify_answer_refuses_what_was_not_offered(change: str) -> None:
    with pytest.raises(InvalidAnswer):
        verify_ike_answer(BOTH_KINDS.offer(), answer_with(change), BOTH_KINDS)


def test_verify_answer_needs_one_proposal() -> None:
    offer = POLICY.offer()
    chosen = select_ike(offer, POLICY, None).answer().proposals[0]
    with pytest.raises(InvalidAnswer, match='2 proposals'):
        verify_ike_answer(offer, SaPayload((chosen, chosen)), POLICY)


def test_verify_answer_needs_suite_when_offer_is_careless() -> None:
    careless = sa(GCM, CBC, PRF, SHA256_128, X25519)
    with pytest.raises(InvalidAnswer, match='no complete IKE suite'):
        verify_ike_answer(careless, sa(GCM, PRF, SHA256_128, X25519), BOTH_KINDS)
    answer = sa(CBC, PRF, SHA256_128, X25519)
    choice = verify_ike_answer(careless, answer, BOTH_KINDS)
    assert choice.suite.encryption == AES_256_CBC_HMAC_SHA2_256_128


def test_verify_answer_accepts_types_in_other_order() -> None:
    answer = sa(X25519, PRF, GCM)
    assert verify_ike_answer(POLICY.offer(), answer, POLICY).suite == GOOD


def test_suite_prints_in_words() -> None:
    assert str(GOOD) == 'aes-256-gcm-16/hmac-sha2-256/curve25519'


def test_policy_defaults_match_profile() -> None:
    assert POLICY.encryptions == (AES_256_GCM_16, CHACHA20_POLY1305)
    assert AES_128_GCM_16 not in POLICY.encryptions
    assert POLICY.prfs == (PrfId.HMAC_SHA2_256,)
    assert POLICY.groups == (
        KeyExchangeId.CURVE25519,
        KeyExchangeId.ECP_256,
        KeyExchangeId.MODP_2048,
    )
