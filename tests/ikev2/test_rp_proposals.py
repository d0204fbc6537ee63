"""Negotiation of routing-protocol SAs: the wire profile, and the draft's form."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikev2.constants import RP_SUITES, KeyExchangeId, ProtocolId, TransformType
from ikev2.errors import InvalidAnswer, NoProposalChosen
from ikev2.proposals.rp import (
    RpChoice,
    offer_rp,
    offered_suites,
    select_rp,
    verify_rp_answer,
)
from ikev2.wire.payloads_sa import Attribute, Proposal, SaPayload, Transform
from tests.ikev2.strategies import sa_payloads
from tests.ikev2.test_payloads import DRAFT_EXAMPLE

X25519 = KeyExchangeId.CURVE25519
P256 = KeyExchangeId.ECP_256
SHA1, CMAC = 'hmac-sha-1-96', 'aes-128-cmac-96'
ALL = tuple(RP_SUITES)


def pairs(proposal: Proposal) -> list[tuple[int, int]]:
    return [
        (integ.transform_id, kdf.transform_id)
        for integ in proposal.of_type(TransformType.INTEG)
        for kdf in proposal.of_type(TransformType.TCP_AO_KDF)
    ]


def edited(payload: SaPayload, add: Transform | None = None, drop: int | None = None) -> SaPayload:
    """The payload with one transform added to, or one type dropped from, each proposal."""
    return SaPayload(
        tuple(
            replace(
                p,
                transforms=tuple(t for t in p.transforms if t.transform_type != drop)
                + ((add,) if add else ()),
            )
            for p in payload.proposals
        )
    )


def choose(offer: SaPayload, suites: tuple[str, ...] = ALL) -> RpChoice:
    return select_rp(offer, suites, (True, False), (X25519, P256), X25519)


def test_rp_offer_matches_octet_by_octet() -> None:
    offer = offer_rp(1, [SHA1], [True], [X25519])
    assert offer.encode_body() == bytes.fromhex(
        '0000 0029 01 c9 01 04 01'
        '0300 0008 0300 0002'  # INTEG HMAC-SHA-1-96
        '0300 0008 f200 0001'  # KDF_HMAC_SHA1
        '0300 0008 0400 001f'  # Curve25519
        '0000 0008 f100 0001'  # TCP options covered
    )


def test_rp_answer_matches_octet_by_octet() -> None:
    # Responder SPI 0x11, initiator SPI 0x01: the example of draft-mahesh-karp-rkmp-06, 6.1.1.2.
    choice = choose(offer_rp(1, [SHA1], [True], [X25519]))
    assert choice.peer_keyid == 1
    assert choice.answer(0x11).encode_body() == bytes.fromhex(
        '0000 0029 01 c9 01 04 11'
        '0300 0008 0300 0002 0300 0008 f200 0001 0300 0008 0400 001f 0000 0008 f100 0001'
    )


@pytest.mark.parametrize('name', ALL)
@pytest.mark.parametrize('covered', [False, True])
def test_every_rp_suite_is_offered_chosen_and_verified(name: str, covered: bool) -> None:
    offer = offer_rp(7, [name], [covered], [X25519])
    choice = choose(offer)
    assert (choice.suite, choice.tcp_options, choice.group) == (name, covered, X25519)
    verified = verify_rp_answer(offer, choice.answer(200))
    assert (verified.suite, verified.tcp_options, verified.group) == (name, covered, X25519)
    assert verified.peer_keyid == 200


@pytest.mark.parametrize(
    ('suites', 'expected'),
    [
        ((SHA1, CMAC), [[(2, 1)], [(8, 2)]]),
        (('hmac-sha256-128-hkdf', 'hmac-sha-256-128'), [[(12, 3), (12, 5)]]),
        (('hmac-sha-256-96', 'hmac-sha-256-128'), [[(1025, 5), (12, 5)]]),
        (
            ('hmac-sha-256-96', 'hmac-sha-256-128', 'hmac-sha256-128-hkdf'),
            [[(1025, 5), (12, 5)], [(12, 3)]],
        ),
        ((SHA1, SHA1), [[(2, 1)]]),
    ],
)
def test_rp_offer_has_no_pair_that_is_no_suite(
    suites: tuple[str, ...], expected: list[list[tuple[int, int]]]
) -> None:
    offer = offer_rp(1, suites, [True], [X25519])
    assert [pairs(proposal) for proposal in offer.proposals] == expected


@given(st.lists(st.sampled_from(ALL), min_size=1, unique=True))
def test_rp_offer_means_just_its_suites(suites: list[str]) -> None:
    offer = offer_rp(9, suites, [True], [X25519])
    offered = [pair for proposal in offer.proposals for pair in pairs(proposal)]
    assert sorted(offered) == sorted((RP_SUITES[s].integ, RP_SUITES[s].kdf) for s in suites)
    assert [p.number for p in offer.proposals] == list(range(1, len(offer.proposals) + 1))
    assert {p.spi for p in offer.proposals} == {b'\x09'}
    assert {name for name, _ in offered_suites(offer)} == set(suites)


@given(
    st.lists(st.sampled_from(ALL), min_size=1, unique=True),
    st.lists(st.sampled_from(ALL), min_size=1, unique=True),
)
def test_select_rp_takes_responders_first_suite(offered: list[str], acceptable: list[str]) -> None:
    offer = offer_rp(9, offered, [True], [X25519])
    common = [name for name in acceptable if name in offered]
    if not common:
        with pytest.raises(NoProposalChosen):
            choose(offer, tuple(acceptable))
        return
    choice = choose(offer, tuple(acceptable))
    assert choice.suite == common[0]
    assert verify_rp_answer(offer, choice.answer(1)).suite == common[0]


def test_offered_suites_are_in_peers_order() -> None:
    offer = offer_rp(1, [CMAC, SHA1], [False, True], [X25519])
    assert offered_suites(offer) == (
        (CMAC, False),
        (CMAC, True),
        (SHA1, False),
        (SHA1, True),
    )


def test_offered_suites_ignore_repetitions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else an authenticated peer could keep us busy for a second with a single request."""
    once = offer_rp(1, [SHA1], [True], [X25519])
    (proposal,) = once.proposals
    often = SaPayload((replace(proposal, transforms=proposal.transforms * 50),))
    looks: list[int] = []
    of_type = Proposal.of_type

    def counted(proposal: Proposal, transform_type: int) -> tuple[Transform, ...]:
        looks.append(transform_type)
        return of_type(proposal, transform_type)

    monkeypatch.setattr(Proposal, 'of_type', counted)
    assert offered_suites(once) == ((SHA1, True),)
    looks_once = len(looks)
    looks.clear()
    assert offered_suites(often) == ((SHA1, True),)
    assert len(looks) == looks_once


def test_select_rp_accepts_draft_example_by_policy() -> None:
    offer = SaPayload.decode_body(DRAFT_EXAMPLE)
    assert offered_suites(offer) == ((SHA1, True), (SHA1, False), (CMAC, True), (CMAC, False))
    choice = select_rp(offer, (CMAC, SHA1), (True,), (X25519,), None, require_key_exchange=False)
    assert (choice.suite, choice.tcp_options, choice.group) == (CMAC, True, None)
    # Answered as it was asked: no KDF, no KE.
    assert choice.answer(0x11).encode_body() == bytes.fromhex(
        '0000 0019 01 c9 01 02 11 0300 0008 0300 0008 0000 0008 f100 0001'
    )


def test_select_rp_refuses_missing_key_exchange_by_default() -> None:
    with pytest.raises(NoProposalChosen):
        choose(SaPayload.decode_body(DRAFT_EXAMPLE))


@pytest.mark.parametrize('name', [n for n in ALL if n not in (SHA1, CMAC)])
def test_select_rp_needs_kdf_beyond_rfc_5926(name: str) -> None:
    offer = edited(offer_rp(1, [name], [True], [X25519]), drop=TransformType.TCP_AO_KDF)
    assert offered_suites(offer) == ()
    with pytest.raises(NoProposalChosen):
        choose(offer)


@pytest.mark.parametrize('name', [SHA1, CMAC])
def test_rp_answer_has_no_kdf_when_offer_had_none(name: str) -> None:
    offer = edited(offer_rp(1, [name], [True], [X25519]), drop=TransformType.TCP_AO_KDF)
    choice = choose(offer)
    assert choice.suite == name
    assert choice.proposal.of_type(TransformType.TCP_AO_KDF) == ()
    assert verify_rp_answer(offer, choice.answer(1)).suite == name


@pytest.mark.parametrize('drop', [TransformType.INTEG, TransformType.TCP_OPTIONS])
def test_select_rp_needs_integ_and_tcp_options(drop: int) -> None:
    with pytest.raises(NoProposalChosen):
        choose(edited(offer_rp(1, ALL, [True], [X25519]), drop=drop))


@pytest.mark.parametrize('kind', [1, 2, 5, 13, 240, 243])
def test_select_rp_skips_proposal_with_unknown_type(kind: int) -> None:
    with pytest.raises(NoProposalChosen):
        choose(edited(offer_rp(1, ALL, [True], [X25519]), add=Transform(kind, 1)))


@pytest.mark.parametrize('kind', [3, 4, 241, 242])
def test_select_rp_skips_transform_with_attribute(kind: int) -> None:
    offer = offer_rp(1, [SHA1], [True], [X25519])
    (proposal,) = offer.proposals
    odd = tuple(
        t._replace(attributes=(Attribute(14, 128),)) if t.transform_type == kind else t
        for t in proposal.transforms
    )
    with pytest.raises(NoProposalChosen):
        choose(SaPayload((replace(proposal, transforms=odd),)))


@pytest.mark.parametrize('spi', [b'', b'\0', b'\x01\x02', b'\0\0\0\x01'])
def test_select_rp_needs_keyid_from_1_to_255(spi: bytes) -> None:
    offer = offer_rp(1, [SHA1], [True], [X25519])
    bad = SaPayload((replace(offer.proposals[0], spi=spi),))
    with pytest.raises(NoProposalChosen):
        choose(bad)
    with pytest.raises(InvalidAnswer, match='KeyID'):
        verify_rp_answer(offer, bad)


@pytest.mark.parametrize('keyid', [0, 256, -1])
def test_offer_rp_refuses_other_keyid(keyid: int) -> None:
    with pytest.raises(ValueError, match='KeyID'):
        offer_rp(keyid, [SHA1], [True], [X25519])


def test_select_rp_needs_one_keyid_in_all_proposals() -> None:
    first, second = offer_rp(1, [SHA1, CMAC], [True], [X25519]).proposals
    with pytest.raises(NoProposalChosen, match='different'):
        choose(SaPayload((first, replace(second, spi=b'\x02'))))


def test_select_rp_skips_other_protocol() -> None:
    esp = Proposal(1, ProtocolId.ESP, b'1234', (Transform(1, 20), Transform(5, 0)))
    (ours,) = offer_rp(1, [SHA1], [True], [X25519]).proposals
    with pytest.raises(NoProposalChosen):
        choose(SaPayload((esp,)))
    assert choose(SaPayload((esp, replace(ours, number=2)))).proposal.number == 2


def test_select_rp_follows_policy_about_tcp_options() -> None:
    offer = offer_rp(1, [SHA1], [True], [X25519])
    with pytest.raises(NoProposalChosen):
        select_rp(offer, ALL, (False,), (X25519,), X25519)
    both = offer_rp(1, [SHA1], [True, False], [X25519])
    assert select_rp(both, ALL, (False,), (X25519,), X25519).tcp_options is False
    assert select_rp(both, ALL, (False, True), (X25519,), X25519).tcp_options is False
    assert select_rp(both, ALL, (True, False), (X25519,), X25519).tcp_options is True


def test_select_rp_takes_acceptable_ke_group() -> None:
    offer = offer_rp(1, [SHA1], [True], [X25519, P256])
    assert select_rp(offer, ALL, (True,), (X25519, P256), P256).group == P256
    assert select_rp(offer, ALL, (True,), (X25519,), P256).group == X25519
    with pytest.raises(NoProposalChosen):
        select_rp(offer, ALL, (True,), (KeyExchangeId.ECP_384,), P256)


def test_select_rp_takes_none_only_by_policy() -> None:
    none = Transform(TransformType.KE, KeyExchangeId.NONE)
    offer = edited(offer_rp(1, [SHA1], [True], []), add=none)
    with pytest.raises(NoProposalChosen):
        choose(offer)
    choice = select_rp(offer, ALL, (True,), (), None, require_key_exchange=False)
    assert choice.group is None
    assert none in choice.proposal.transforms
    assert verify_rp_answer(offer, choice.answer(1)).group is None


def test_select_rp_refuses_key_exchange_in_ike_auth() -> None:
    # RFC 7296, 1.2: no group but NONE there.
    offer = offer_rp(1, [SHA1], [True], [X25519])
    with pytest.raises(NoProposalChosen):
        select_rp(offer, ALL, (True,), (), None, require_key_exchange=False)


def test_select_rp_takes_proposal_without_ke_in_ike_auth() -> None:
    offer = offer_rp(1, [SHA1], [True], [])
    choice = select_rp(offer, ALL, (True,), (), None, require_key_exchange=False)
    assert verify_rp_answer(offer, choice.answer(1)).suite == SHA1


def test_select_rp_refuses_additional_exchange_without_none() -> None:
    offer = edited(
        offer_rp(1, [SHA1], [True], [X25519]),
        add=Transform(TransformType.ADDKE1, KeyExchangeId.ML_KEM_768),
    )
    with pytest.raises(NoProposalChosen):
        choose(offer)
    none = Transform(TransformType.ADDKE1, KeyExchangeId.NONE)
    assert none in choose(edited(offer, add=none)).proposal.transforms


def test_verify_rp_answer_refuses_foreign_kdf() -> None:
    # Only a careless offer allows it: SHA-1 and AES-CMAC in one proposal.
    (first, second) = offer_rp(1, [SHA1, CMAC], [True], [X25519]).proposals
    careless = SaPayload((replace(first, transforms=first.transforms + second.transforms[:2]),))
    crossed = SaPayload((replace(first, transforms=(second.transforms[0], *first.transforms[1:])),))
    with pytest.raises(InvalidAnswer, match='pairs'):
        verify_rp_answer(careless, crossed)
    with pytest.raises(NoProposalChosen):
        choose(crossed)


@pytest.mark.parametrize('drop', [3, 4, 241, 242])
def test_verify_rp_answer_needs_every_offered_type(drop: int) -> None:
    offer = offer_rp(1, [SHA1], [True], [X25519])
    with pytest.raises(InvalidAnswer, match='other transform types'):
        verify_rp_answer(offer, edited(choose(offer).answer(1), drop=drop))


def test_verify_rp_answer_refuses_other_number() -> None:
    offer = offer_rp(1, [SHA1, CMAC], [True], [X25519])
    (chosen,) = choose(offer).answer(1).proposals
    assert chosen.number == 1
    with pytest.raises(InvalidAnswer):
        verify_rp_answer(offer, SaPayload((replace(chosen, number=2),)))


@given(sa_payloads)
def test_rp_negotiation_chooses_or_refuses_any_offer(payload: SaPayload) -> None:
    offered_suites(payload)
    with pytest.raises(NoProposalChosen):
        choose(payload)
    with pytest.raises(InvalidAnswer):
        verify_rp_answer(offer_rp(1, ALL, [True], [X25519]), payload)


@pytest.mark.parametrize(('suites', 'options'), [([], [True]), ([SHA1], [])])
def test_offer_rp_refuses_empty_lists(suites: list[str], options: list[bool]) -> None:
    with pytest.raises(ValueError, match='needs a suite'):
        offer_rp(1, suites, options, [X25519])
