"""Proposals of routing-protocol SAs: protocol TCP_AO, one MKT's algorithms and KeyID.

The layout is draft-mahesh-karp-rkmp-06, 6.1.1, with private-use numbers and a KDF transform in
addition to INTEG. The SPI is one octet: the KeyID that the sender of the payload will use as its
own SendID. This module does not know whether a KeyID is free and what an address may ask for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ikev2.constants import (
    IMPLIED_KDF,
    RP_SUITES,
    KeyExchangeId,
    ProtocolId,
    RpSuite,
    TcpOptionsId,
    TransformType,
)
from ikev2.crypto.key_exchange import ADDITIONAL_METHODS
from ikev2.errors import InvalidAnswer, NoProposalChosen
from ikev2.proposals.ike import (
    ADDITIONAL,
    additional_choices,
    check_answer,
    chosen_additional,
)
from ikev2.wire.payloads_sa import Proposal, SaPayload, Transform

KEYID_LENGTH = 1

_UNDERSTOOD = frozenset(
    (
        TransformType.INTEG,
        TransformType.KE,
        TransformType.TCP_OPTIONS,
        TransformType.TCP_AO_KDF,
        *ADDITIONAL,
    )
)


@dataclass(frozen=True, slots=True)
class RpChoice:
    """The chosen algorithms of an MKT, and the proposal that names them."""

    suite: str
    """A name of RP_SUITES."""
    tcp_options: bool
    """True if the MAC covers TCP options."""
    group: int | None
    """The key exchange method; None if there is no key exchange."""
    proposal: Proposal
    """The proposal as chosen: the peer's number and SPI, one transform of each type."""

    @property
    def additional(self) -> tuple[KeyExchangeId, ...]:
        """Return the additional key exchanges, in the order of their exchanges (RFC 9370)."""
        return chosen_additional(self.proposal.transforms)

    @property
    def peer_keyid(self) -> int:
        """Return the peer's SendID, our RecvID."""
        return self.proposal.spi[0]

    def answer(self, keyid: int) -> SaPayload:
        """Return our SA payload as responder; `keyid` is our SendID.

        The answer has a KDF transform only if one was offered.
        """
        chosen = self.proposal
        spi = bytes([keyid])
        return SaPayload((Proposal(chosen.number, chosen.protocol, spi, chosen.transforms),))


def offer_rp(
    keyid: int,
    suites: Sequence[str],
    tcp_options: Sequence[bool],
    groups: Sequence[int],
    additional: Sequence[tuple[Transform, ...]] = ((),),
) -> SaPayload:
    """Return our SA payload as initiator: `keyid` is our SendID; each list is in order of
    preference.

    `groups` is empty only in IKE_AUTH; `additional` is `IkePolicy.offered_additional`: all
    proposals come once with each of its sets of ADDKE transforms. Neighboring suites share a
    proposal exactly if every INTEG in it goes with every KDF in it, since a proposal offers all
    combinations. Raises ValueError if a list that must not be empty is empty, or if `keyid` is not
    1 to 255.
    """
    if not suites or not tcp_options:
        raise ValueError('an offer needs a suite and a choice about TCP options')
    if not 1 <= keyid <= 255:
        raise ValueError(f'{keyid} is not a KeyID that can be negotiated')
    rest = (
        *(Transform(TransformType.KE, group) for group in groups),
        *(Transform(TransformType.TCP_OPTIONS, int(covered)) for covered in tcp_options),
    )
    products = _products(suites)
    return SaPayload(
        tuple(
            Proposal(
                number,
                ProtocolId.TCP_AO,
                bytes([keyid]),
                (
                    *_distinct(TransformType.INTEG, [suite.integ for suite in product]),
                    *_distinct(TransformType.TCP_AO_KDF, [suite.kdf for suite in product]),
                    *rest,
                    *exchanges,
                ),
            )
            for number, (exchanges, product) in enumerate(
                ((exchanges, product) for exchanges in additional for product in products), 1
            )
        )
    )


def select_rp(
    offer: SaPayload,
    suites: Sequence[str],
    tcp_options: Sequence[bool],
    groups: Sequence[int],
    ke_group: int | None,
    *,
    require_key_exchange: bool = True,
    additional: Sequence[KeyExchangeId] = (),
    additional_required: bool = False,
) -> RpChoice:
    """Choose from `offer`, as responder, by our order of suites, then the peer's of proposals.

    `ke_group`, the group of the peer's KE payload, is preferred among `groups`; if another is
    chosen the caller answers INVALID_KE_PAYLOAD. Without `require_key_exchange` a proposal without
    KE, or with NONE, is acceptable too (the draft's form, or IKE_AUTH, where `groups` is empty).
    `additional` are the methods allowed in additional key exchanges.

    A proposal of another protocol, with a wrong SPI, with an unknown transform type or without a
    mandatory one is skipped. Raises NoProposalChosen.
    """
    candidates = [p for p in offer.proposals if _usable(p)]
    if len({p.spi for p in candidates}) > 1:
        raise NoProposalChosen('the proposals carry different KeyIDs')
    order = sorted(groups, key=lambda group: group != ke_group)
    for name in suites:
        for proposal in candidates:
            exchanges = next(
                additional_choices(proposal, additional, required=additional_required), None
            )
            if exchanges is None:
                continue
            for choice in _choices(
                proposal, name, tcp_options, order, exchanges, require_key_exchange
            ):
                return choice
    raise NoProposalChosen('none of the RP SA proposals is acceptable')


def verify_rp_answer(offer: SaPayload, answer: SaPayload) -> RpChoice:
    """Return, as initiator, the peer's choice from our `offer`. Raises InvalidAnswer."""
    chosen = check_answer(offer, answer)
    if not _usable(chosen):
        raise InvalidAnswer('the answer is no RP SA proposal with a KeyID from 1 to 255')
    groups = [transform.transform_id for transform in chosen.of_type(TransformType.KE)]
    # Any method of the answer was on offer; but no method may be used twice (RFC 9370, 2.2.1).
    exchanges = next(additional_choices(chosen, tuple(ADDITIONAL_METHODS), required=False), None)
    if exchanges is None:
        raise InvalidAnswer('the answer has one additional key exchange twice')
    for name in RP_SUITES:
        for choice in _choices(
            chosen, name, (False, True), groups, exchanges, require_ke=bool(groups)
        ):
            return RpChoice(name, choice.tcp_options, choice.group, chosen)
    raise InvalidAnswer('the answer pairs an INTEG with a KDF that it does not go with')


def offered_suites(offer: SaPayload) -> tuple[tuple[str, bool], ...]:
    """Return (suite name, TCP options covered) for all that an offer allows, in the peer's
    order.
    """
    found: dict[tuple[str, bool], None] = {}
    for proposal in offer.proposals:
        if not _usable(proposal):
            continue
        # Each transform counts once: repeated transforms must not multiply the work.
        options = [
            _OPTIONS[option]
            for option in dict.fromkeys(proposal.of_type(TransformType.TCP_OPTIONS))
            if option in _OPTIONS
        ]
        for integ in dict.fromkeys(proposal.of_type(TransformType.INTEG)):
            for name, suite in RP_SUITES.items():
                if integ == Transform(TransformType.INTEG, suite.integ) and (
                    _kdf(proposal, suite) is not None
                ):
                    found.update(((name, covered), None) for covered in options)
    return tuple(found)


_OPTIONS = {
    Transform(TransformType.TCP_OPTIONS, TcpOptionsId.NOT_COVERED): False,
    Transform(TransformType.TCP_OPTIONS, TcpOptionsId.COVERED): True,
}


def _usable(proposal: Proposal) -> bool:
    return (
        proposal.protocol == ProtocolId.TCP_AO
        and len(proposal.spi) == KEYID_LENGTH
        # 0 belongs to deny keys; it is never negotiated.
        and proposal.spi != b'\0'
        and all(t.transform_type in _UNDERSTOOD for t in proposal.transforms)
    )


def _choices(
    proposal: Proposal,
    name: str,
    tcp_options: Sequence[bool],
    groups: Sequence[int],
    additional: tuple[Transform, ...],
    require_ke: bool,
) -> Iterator[RpChoice]:
    """Yield every choice of one suite that the proposal allows, the most preferred first."""
    suite = RP_SUITES[name]
    offered = frozenset(proposal.transforms)
    integ = Transform(TransformType.INTEG, suite.integ)
    kdf = _kdf(proposal, suite)
    if integ not in offered or kdf is None:
        return
    exchanges: list[tuple[Transform, ...]] = [
        (Transform(TransformType.KE, group),) for group in groups
    ]
    if not require_ke:
        if proposal.of_type(TransformType.KE):
            exchanges.append((Transform(TransformType.KE, KeyExchangeId.NONE),))
        else:
            exchanges.append(())
    for exchange in exchanges:
        for covered in tcp_options:
            option = Transform(TransformType.TCP_OPTIONS, int(covered))
            needed = (integ, *kdf, *exchange, *additional, option)
            if offered.issuperset(needed):
                group = exchange[0].transform_id if exchange else KeyExchangeId.NONE
                chosen = Proposal(proposal.number, proposal.protocol, proposal.spi, needed)
                yield RpChoice(name, covered, group or None, chosen)


def _kdf(proposal: Proposal, suite: RpSuite) -> tuple[Transform, ...] | None:
    """Return the KDF transform of a choice: () where the draft's form implies it, None if unfit."""
    offered = proposal.of_type(TransformType.TCP_AO_KDF)
    if not offered:
        return () if IMPLIED_KDF.get(suite.integ) == suite.kdf else None
    wanted = Transform(TransformType.TCP_AO_KDF, suite.kdf)
    return (wanted,) if wanted in offered else None


def _products(suites: Sequence[str]) -> list[list[RpSuite]]:
    """Return runs of suites whose INTEG and KDF values multiply out to just these suites."""
    runs: list[list[RpSuite]] = []
    for name in dict.fromkeys(suites):
        suite = RP_SUITES[name]
        if runs and _multiplies_out([*runs[-1], suite]):
            runs[-1].append(suite)
        else:
            runs.append([suite])
    return runs


def _multiplies_out(run: Sequence[RpSuite]) -> bool:
    pairs = {(suite.integ, suite.kdf) for suite in run}
    return len(pairs) == len({i for i, _ in pairs}) * len({k for _, k in pairs})


def _distinct(kind: TransformType, ids: Sequence[int]) -> tuple[Transform, ...]:
    return tuple(Transform(kind, transform_id) for transform_id in dict.fromkeys(ids))
