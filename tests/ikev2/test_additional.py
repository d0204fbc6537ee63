"""Additional key exchanges: ML-KEM and how it is negotiated.

RFC 9370, 2.2.1; draft-ietf-ipsecme-ikev2-mlkem; FIPS 203.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
from cryptography.exceptions import UnsupportedAlgorithm as LibraryHasNone
from hypothesis import given
from hypothesis import strategies as st

import ikev2.exchanges.ike_init_responder as responder
from ikev2.constants import ExchangeType, KeyExchangeId, PrfId, ProtocolId, TransformType
from ikev2.crypto.cipher import AES_256_GCM_16
from ikev2.crypto.key_exchange import ADDITIONAL_METHODS, KeyExchange, available, respond
from ikev2.crypto.mlkem import PARAMETER_SETS
from ikev2.errors import (
    InvalidAnswer,
    InvalidKeyExchange,
    LocalError,
    NoProposalChosen,
    UnsupportedAlgorithm,
)
from ikev2.events import IkeSaUp
from ikev2.proposals.ike import (
    ADDITIONAL,
    IkeChoice,
    IkePolicy,
    IkeSuite,
    additional_choices,
    chosen_additional,
    select_ike,
    verify_ike_answer,
)
from ikev2.proposals.policies import POLICIES, policy_named
from ikev2.proposals.rp import RpChoice, offer_rp, select_rp, verify_rp_answer
from ikev2.wire.payloads_sa import Proposal, SaPayload, Transform
from keymaterial import Secret
from tests.ikev2.bench import Bench, header_of, is_kind, peer_a, peer_b

VECTORS = json.loads((Path(__file__).parent / 'vectors' / 'mlkem.json').read_text())['vectors']
K768, K1024, NONE = KeyExchangeId.ML_KEM_768, KeyExchangeId.ML_KEM_1024, KeyExchangeId.NONE
LENGTHS = {K768: (1184, 1088), K1024: (1568, 1568)}
CURVE = KeyExchangeId.CURVE25519
ADDKE1 = TransformType.ADDKE1
HYBRID, OPTIONAL, PLAIN = (POLICIES[n] for n in ('hybrid', 'hybrid-optional', 'default'))


# --- ML-KEM --------------------------------------------------------------------------------------


@pytest.mark.parametrize('vector', VECTORS, ids=lambda vector: vector['method'])
def test_ml_kem_matches_published_vectors(vector: dict[str, str]) -> None:
    exchange = KeyExchange.generate(
        int(vector['method']), Secret(bytes.fromhex(vector['d'] + vector['z']))
    )
    assert exchange.public_value.hex() == vector['pk']
    assert exchange.shared_secret(bytes.fromhex(vector['ct'])).reveal().hex() == vector['ss']
    # Implicit rejection (FIPS 203, 6.3): no error, but a secret that no other end has.
    assert exchange.shared_secret(bytes.fromhex(vector['ct_n'])).reveal().hex() == vector['ss_n']


@pytest.mark.parametrize('method', sorted(ADDITIONAL_METHODS))
def test_ml_kem_gives_both_roles_one_secret(method: KeyExchangeId) -> None:
    initiator = KeyExchange.generate(method)
    ciphertext, secret = respond(method, initiator.public_value)
    assert initiator.group == method
    assert (len(initiator.public_value), len(ciphertext)) == LENGTHS[method]
    assert initiator.shared_secret(ciphertext) == secret
    assert len(secret) == 32
    assert respond(method, initiator.public_value) != (ciphertext, secret)


@pytest.mark.parametrize('method', sorted(ADDITIONAL_METHODS))
@pytest.mark.parametrize('change', [-1, 1])
def test_ml_kem_refuses_values_of_another_length(method: KeyExchangeId, change: int) -> None:
    # FIPS 203, 7.2 and 7.3: type checks.
    key, ciphertext = LENGTHS[method]
    with pytest.raises(InvalidKeyExchange, match='not an encapsulation key'):
        respond(method, bytes(key + change))
    with pytest.raises(InvalidKeyExchange, match='not a ciphertext'):
        KeyExchange.generate(method).shared_secret(bytes(ciphertext + change))


@pytest.mark.parametrize('method', sorted(ADDITIONAL_METHODS))
def test_ml_kem_refuses_key_with_too_large_coefficient(
    method: KeyExchangeId,
) -> None:
    # FIPS 203, 7.2: modulus check. The first coefficient is the low 12 bits, little-endian.
    key = bytearray(KeyExchange.generate(method).public_value)
    key[0], key[1] = 3329 & 0xFF, key[1] & 0xF0 | 3329 >> 8
    with pytest.raises(InvalidKeyExchange, match='not an encapsulation key'):
        respond(method, bytes(key))
    key[0] -= 1
    respond(method, bytes(key))


@pytest.mark.parametrize('method', sorted(ADDITIONAL_METHODS))
@given(st.data())
def test_ml_kem_accepts_or_blames_peer_when_value_is_any(
    method: KeyExchangeId, data: st.DataObject
) -> None:
    key, ciphertext = LENGTHS[method]
    for length, use in (
        (key, lambda octets: respond(method, octets)[1]),
        (ciphertext, KeyExchange.generate(method).shared_secret),
    ):
        octets = data.draw(st.one_of(st.binary(min_size=length, max_size=length), st.binary()))
        with suppress(InvalidKeyExchange):
            assert len(use(octets)) == 32


def test_ml_kem_blames_our_side_when_library_lacks_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Without:
        """A key type of a library that was built with an older OpenSSL."""

        @classmethod
        def generate(cls) -> None:
            raise LibraryHasNone('none')

        @classmethod
        def from_public_bytes(cls, data: bytes) -> None:
            raise LibraryHasNone('none')

    row = next(row for row in PARAMETER_SETS if row.group == K768)
    monkeypatch.setattr(type(row), 'private_type', property(lambda self: Without), raising=False)
    monkeypatch.setattr(type(row), 'public_type', property(lambda self: Without), raising=False)
    available.cache_clear()
    try:
        with pytest.raises(UnsupportedAlgorithm, match='has no ML-KEM-768'):
            KeyExchange.generate(K768)
        with pytest.raises(UnsupportedAlgorithm, match='has no ML-KEM-768'):
            respond(K768, bytes(1184))
        assert not available(K768)
        with pytest.raises(UnsupportedAlgorithm, match='policy hybrid needs ML-KEM-768'):
            policy_named('hybrid')
        assert policy_named('default') == PLAIN
    finally:
        available.cache_clear()


def test_available_tells_what_this_host_supports() -> None:
    assert available(K768)
    assert available(CURVE)
    assert not available(KeyExchangeId.ML_KEM_512)
    assert not available(2)


# --- what is offered -----------------------------------------------------------------------------


def kinds(proposal: Proposal) -> list[int]:
    return [t.transform_id for t in proposal.of_type(TransformType.ADDKE1)]


def chosen_types(proposal: Proposal) -> list[int]:
    return sorted({t.transform_type for t in proposal.transforms} & ADDITIONAL)


def test_offer_has_exchange_in_every_proposal_when_required() -> None:
    for proposal in HYBRID.offer().proposals:
        offered = [proposal.of_type(kind) for kind in sorted(ADDITIONAL)]
        assert any(found and all(t.transform_id for t in found) for found in offered)
    assert kinds(HYBRID.offer().proposals[0]) == [K768, K1024]


def test_offer_has_one_proposal_without_exchange_when_preferred() -> None:
    # A peer that doesn't know the transform type can't take a proposal that has it (RFC 7296,
    # 3.3.6), even with NONE: hence a proposal without.
    first, *others, last = OPTIONAL.offer().proposals
    assert (first.number, kinds(first)) == (1, [K768, K1024])
    assert not [t for t in first.transforms if t.transform_type in ADDITIONAL - {ADDKE1}]
    assert [p.transforms for p in others] == [p.transforms for p in HYBRID.offer().proposals[1:]]
    assert last.transforms == PLAIN.offer().proposals[0].transforms


def chosen_by_peer(offer: SaPayload, wanted: dict[int, KeyExchangeId]) -> IkeChoice | None:
    """The choice of a peer that wants just these methods, by type, and no others."""
    for proposal in offer.proposals:
        for choice in additional_choices(proposal, (K768, K1024), required=False):
            types = {t.transform_type: t.transform_id for t in choice if t.transform_id}
            if types == wanted:
                one_each = {t.transform_type: t for t in reversed(proposal.transforms)}
                one_each |= {t.transform_type: t for t in choice}
                chosen = replace(proposal, transforms=tuple(one_each.values()))
                suite = IkeSuite(AES_256_GCM_16, PrfId.HMAC_SHA2_256, CURVE, tuple(wanted.values()))
                return IkeChoice(suite, chosen)
    return None


WANTED: list[dict[int, KeyExchangeId]] = [
    {6: K768},
    {6: K1024},
    {6: K768, 7: K1024},
    {6: K1024, 7: K768},
    {6: K768, 8: K1024},
    {7: K768},
    {7: K1024, 8: K768},
    {8: K768},
    {8: K1024},
]


@pytest.mark.parametrize('wanted', WANTED, ids=str)
@pytest.mark.parametrize('policy', [HYBRID, OPTIONAL], ids=['required', 'optional'])
def test_initiator_serves_peer_when_types_are_its_own(
    policy: IkePolicy, wanted: dict[int, KeyExchangeId], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two additional key exchanges, or only the third: nothing but ADDKE1 was offered."""
    choice = chosen_by_peer(policy.offer(), wanted)
    assert choice is not None
    verified = verify_ike_answer(policy.offer(), choice.answer(), policy)
    assert verified.suite.additional == tuple(wanted.values())
    monkeypatch.setattr(responder, 'select_ike', lambda offer, *_, **__: choice)
    bench = Bench(a=replace(peer_a(), policy=policy), b=replace(peer_b(), policy=policy))
    bench.connect()
    assert bench.a.last(IkeSaUp).suite == bench.b.last(IkeSaUp).suite
    exchanges = {
        header_of(datagram).message_id
        for datagram in bench.sent_by(bench.b)
        if is_kind(datagram, ExchangeType.IKE_INTERMEDIATE, response=True)
    }
    assert len(exchanges) == len(wanted)


def test_offer_multiplies_kinds_of_ciphers_and_exchanges() -> None:
    both = IkePolicy(encryptions=POLICIES['compatible'].encryptions, additional=(K768,))
    numbers = [
        (chosen_types(p), bool(p.of_type(TransformType.INTEG))) for p in both.offer().proposals
    ]
    # One method is done once: no proposal has two types.
    expected = [[6], [7], [8], []]
    assert numbers == [(types, cbc) for types in expected for cbc in (False, True)]
    assert [p.number for p in both.offer().proposals] == list(range(1, 9))


# --- what is chosen ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('offers', 'chooses', 'methods'),
    [
        (HYBRID, HYBRID, (K768,)),
        (HYBRID, OPTIONAL, (K768,)),
        (OPTIONAL, HYBRID, (K768,)),
        (OPTIONAL, OPTIONAL, (K768,)),
        (OPTIONAL, PLAIN, ()),
        (PLAIN, OPTIONAL, ()),
        (PLAIN, PLAIN, ()),
        (HYBRID, IkePolicy(additional=(K1024, K768)), (K1024,)),
        (HYBRID, PLAIN, None),
        (PLAIN, HYBRID, None),
    ],
)
def test_policies_meet_or_fail_by_their_exchanges(
    offers: IkePolicy, chooses: IkePolicy, methods: tuple[KeyExchangeId, ...] | None
) -> None:
    offer = offers.offer()
    if methods is None:
        with pytest.raises(NoProposalChosen):
            select_ike(offer, chooses, CURVE)
        return
    choice = select_ike(offer, chooses, CURVE)
    assert choice.suite.additional == methods
    assert verify_ike_answer(offer, choice.answer(), offers).suite == choice.suite


def test_select_ike_skips_exchange_without_intermediate() -> None:
    # RFC 9370, 2.2.1: the initiator MUST negotiate them if it offers ADDKE.
    assert select_ike(OPTIONAL.offer(), OPTIONAL, CURVE, intermediate=False).suite.additional == ()
    with pytest.raises(NoProposalChosen):
        select_ike(HYBRID.offer(), OPTIONAL, CURVE, intermediate=False)
    with pytest.raises(NoProposalChosen):
        select_ike(OPTIONAL.offer(), HYBRID, CURVE, intermediate=False)


def test_suite_text_names_additional_exchange() -> None:
    assert str(select_ike(HYBRID.offer(), HYBRID, CURVE).suite) == (
        'aes-256-gcm-16/hmac-sha2-256/curve25519+ml-kem-768'
    )


def proposal(**offered: list[KeyExchangeId]) -> Proposal:
    transforms = [
        Transform(TransformType[kind], method)
        for kind, methods in offered.items()
        for method in methods
    ]
    return Proposal(1, ProtocolId.IKE, b'', tuple(transforms))


def best(
    offered: Proposal, methods: tuple[KeyExchangeId, ...], *, required: bool = False
) -> list[int] | None:
    choice = next(additional_choices(offered, methods, required=required), None)
    return None if choice is None else [transform.transform_id for transform in choice]


def test_choice_has_one_transform_of_each_offered_type() -> None:
    # The example of RFC 9370, 2.2.1: types 2, 3 and 5.
    offered = proposal(ADDKE2=[K768, K1024], ADDKE3=[K768, K1024], ADDKE5=[KeyExchangeId(35), NONE])
    assert best(offered, (K768, K1024)) == [K768, K1024, NONE]
    choice = next(additional_choices(offered, (K1024, K768), required=True))
    assert [t.transform_type for t in choice] == [7, 8, 10]
    assert chosen_additional(choice) == (K1024, K768)
    assert chosen_additional(tuple(reversed(choice))) == (K1024, K768)


def test_choice_has_no_method_twice() -> None:
    # RFC 9370, 2.2.1: the responder's choice MUST NOT contain duplicated algorithms.
    assert best(proposal(ADDKE1=[K768], ADDKE2=[K768]), (K768, K1024)) is None
    assert best(proposal(ADDKE1=[K768, K1024], ADDKE2=[K768]), (K768, K1024)) == [K1024, K768]
    assert best(proposal(ADDKE1=[K768], ADDKE2=[K768, NONE]), (K768, K1024)) == [K768, NONE]
    assert best(proposal(ADDKE1=[NONE], ADDKE2=[NONE]), ()) == [NONE, NONE]


def test_choice_is_not_none_when_exchange_is_required() -> None:
    assert best(proposal(ADDKE1=[NONE]), (K768,), required=True) is None
    assert best(proposal(), (K768,), required=True) is None
    assert best(proposal(), (K768,)) == []
    assert best(proposal(ADDKE1=[K768, NONE]), ()) == [NONE]
    assert best(proposal(ADDKE1=[K768]), ()) is None


@given(
    st.dictionaries(
        st.sampled_from([kind.name for kind in map(TransformType, ADDITIONAL)]),
        st.lists(st.sampled_from([NONE, K768, K1024, KeyExchangeId(35)]), min_size=1, max_size=4),
    ),
    st.sampled_from([(), (K768,), (K768, K1024)]),
    st.booleans(),
)
def test_every_choice_keeps_the_rules(
    offered: dict[str, list[KeyExchangeId]], methods: tuple[KeyExchangeId, ...], required: bool
) -> None:
    given_proposal = proposal(**offered)
    choices = list(additional_choices(given_proposal, methods, required=required))
    for choice in choices:
        real = [t.transform_id for t in choice if t.transform_id]
        assert {t.transform_type for t in choice} == {TransformType[kind] for kind in offered}
        assert set(choice) <= set(given_proposal.transforms)
        assert len(set(real)) == len(real)
        assert set(real) <= set(methods)
        assert real or not required
    # And none is missed: every assignment that keeps them, counted by brute force.
    names = sorted(offered, key=lambda kind: TransformType[kind])
    pool = [*methods, *[NONE] * len(names)]
    wanted = {
        picked
        for picked in permutations(pool, len(names))
        if all(method in offered[kind] for kind, method in zip(names, picked, strict=True))
        and (any(picked) or not required)
    }
    assert {tuple(t.transform_id for t in choice) for choice in choices} == wanted


# --- routing-protocol SAs ------------------------------------------------------------------------


def rp_offer(policy: IkePolicy) -> SaPayload:
    return offer_rp(7, ['hmac-sha-1-96'], [True], policy.groups, policy.offered_additional)


@pytest.mark.parametrize(
    ('offers', 'chooses', 'methods'),
    [
        (HYBRID, HYBRID, (K768,)),
        (OPTIONAL, HYBRID, (K768,)),
        (OPTIONAL, PLAIN, ()),
        (PLAIN, OPTIONAL, ()),
        (HYBRID, PLAIN, None),
        (PLAIN, HYBRID, None),
    ],
)
def test_rp_sa_proposals_follow_the_same_rules(
    offers: IkePolicy, chooses: IkePolicy, methods: tuple[KeyExchangeId, ...] | None
) -> None:
    def select() -> RpChoice:
        return select_rp(
            rp_offer(offers),
            ['hmac-sha-1-96'],
            [True],
            chooses.groups,
            CURVE,
            additional=chooses.additional,
            additional_required=chooses.additional_required,
        )

    if methods is None:
        with pytest.raises(NoProposalChosen):
            select()
        return
    choice = select()
    assert choice.additional == methods
    answered = verify_rp_answer(rp_offer(offers), choice.answer(9))
    assert answered.additional == methods


def test_check_answer_refuses_when_method_comes_twice() -> None:
    twice = (
        Transform(TransformType.ADDKE1, K768),
        Transform(TransformType.ADDKE2, K768),
    )
    offer = offer_rp(7, ['hmac-sha-1-96'], [True], [CURVE], [twice])
    with pytest.raises(InvalidAnswer, match='twice'):
        verify_rp_answer(offer, offer)


# --- policies ------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', POLICIES)
def test_policies_by_name_meet_themselves(name: str) -> None:
    policy = policy_named(name)
    choice = select_ike(policy.offer(), policy, policy.groups[0])
    assert choice.suite.encryption == policy.encryptions[0]
    assert bool(choice.suite.additional) == bool(policy.additional)


def test_policies_by_name_have_nothing_below_rfc_8247() -> None:
    # RFC 8247, 2.1 to 2.4: no SHA-1, no MODP group below 2048 bits, no 3DES.
    for policy in POLICIES.values():
        assert {e.name for e in policy.encryptions} <= {
            'aes-256-gcm-16',
            'aes-128-gcm-16',
            'chacha20-poly1305',
            'aes-256-cbc-hmac-sha2-256-128',
            'aes-128-cbc-hmac-sha2-256-128',
        }
        assert set(policy.prfs) <= {
            PrfId.HMAC_SHA2_256,
            PrfId.HMAC_SHA2_384,
            PrfId.HMAC_SHA2_512,
        }
        assert set(policy.groups) <= {14, 15, 16, 19, 20, 31}


def test_policy_named_lists_names_when_unknown() -> None:
    with pytest.raises(LocalError, match="no policy 'weak': it is one of default, compatible"):
        policy_named('weak')


@pytest.mark.parametrize(
    ('policy', 'why'),
    [
        ({'encryptions': ()}, 'names an encryption'),
        ({'prfs': ()}, 'names an encryption'),
        ({'groups': ()}, 'names an encryption'),
        ({'prfs': (PrfId.HMAC_SHA1,)}, 'not supported'),
        ({'groups': (KeyExchangeId.ECP_521,)}, 'not supported'),
        ({'groups': (K768,)}, 'not supported'),
        ({'additional': (CURVE,)}, 'additional key exchange that is not supported'),
        ({'additional_required': True}, 'names none'),
    ],
)
def test_policy_is_refused_when_it_cannot_be_met(policy: dict[str, object], why: str) -> None:
    with pytest.raises(LocalError, match=why):
        IkePolicy(**policy)  # type: ignore[arg-type]
