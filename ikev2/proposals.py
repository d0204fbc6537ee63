"""IKE suites: what we offer, what we choose from an offer, what we accept as an answer.

RFC 7296, 2.7 and 3.3; RFC 5282, 8 for AEADs; RFC 8247 for what is still good enough. RP SAs are
negotiated in rp_proposals.py by the same rules; the part that both need is `check_answer`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ikev2.cipher import AES_256_GCM_16, CHACHA20_POLY1305, Encryption
from ikev2.constants import IntegrityId, KeyExchangeId, PrfId, ProtocolId, TransformType
from ikev2.errors import InvalidAnswer, NoProposalChosen
from ikev2.payloads_sa import Proposal, SaPayload, Transform

IKE_SPI_LENGTH = 8

# All that we understand in an IKE proposal; another type makes the proposal unacceptable
# (RFC 7296, 3.3.6). An additional key exchange is acceptable where NONE is on offer (RFC 9370).
ADDITIONAL = tuple(range(TransformType.ADDKE1, TransformType.ADDKE7 + 1))
_UNDERSTOOD = frozenset(
    (TransformType.ENCR, TransformType.PRF, TransformType.INTEG, TransformType.KE, *ADDITIONAL)
)


@dataclass(frozen=True, slots=True)
class IkeSuite:
    """The algorithms of one IKE SA."""

    encryption: Encryption
    prf: PrfId
    group: KeyExchangeId

    def __str__(self) -> str:
        prf = self.prf.name.lower().replace('_', '-')
        group = self.group.name.lower().replace('_', '-')
        return f'{self.encryption.name}/{prf}/{group}'


@dataclass(frozen=True, slots=True)
class IkePolicy:
    """What is acceptable, the most wanted first."""

    encryptions: tuple[Encryption, ...] = (AES_256_GCM_16, CHACHA20_POLY1305)
    prfs: tuple[PrfId, ...] = (PrfId.HMAC_SHA2_256,)
    groups: tuple[KeyExchangeId, ...] = (
        KeyExchangeId.CURVE25519,
        KeyExchangeId.ECP_256,
        KeyExchangeId.MODP_2048,
    )

    def offer(self, spi: bytes = b'') -> SaPayload:
        """Our SA payload; `spi` is our new IKE SPI in a rekey and empty in IKE_SA_INIT.

        AEADs and CBC with HMAC go into proposals of their own (RFC 7296, 3.3).
        """
        combined = tuple(e for e in self.encryptions if e.aead)
        separate = tuple(e for e in self.encryptions if not e.aead)
        return SaPayload(
            tuple(
                Proposal(number, ProtocolId.IKE, spi, self._transforms(encryptions))
                for number, encryptions in enumerate(filter(None, (combined, separate)), 1)
            )
        )

    def _transforms(self, encryptions: tuple[Encryption, ...]) -> tuple[Transform, ...]:
        integs = tuple(dict.fromkeys(e.integ for e in encryptions if e.integ is not None))
        return (
            *(Transform.make(TransformType.ENCR, e.encr, e.key_bits) for e in encryptions),
            *(Transform(TransformType.PRF, prf) for prf in self.prfs),
            *(Transform(TransformType.INTEG, integ) for integ in integs),
            *(Transform(TransformType.KE, group) for group in self.groups),
        )


@dataclass(frozen=True, slots=True)
class IkeChoice:
    """What was chosen: the suite, and the proposal that says so."""

    suite: IkeSuite
    proposal: Proposal
    """As chosen: the peer's number and SPI, one transform of each type."""

    @property
    def peer_spi(self) -> bytes:
        """The peer's new IKE SPI in a rekey; empty in IKE_SA_INIT."""
        return self.proposal.spi

    def answer(self, spi: bytes = b'') -> SaPayload:
        """Our SA payload as responder; `spi` is our new IKE SPI in a rekey."""
        chosen = self.proposal
        return SaPayload((Proposal(chosen.number, chosen.protocol, spi, chosen.transforms),))


def select_ike(
    offer: SaPayload, policy: IkePolicy, ke_group: int | None, *, rekey: bool = False
) -> IkeChoice:
    """As responder: choose from `offer`. Raises NoProposalChosen.

    The peer's order of proposals counts, then our order of algorithms. The group of its KE
    payload (`ke_group`) is taken if we accept it at all, since another costs a round trip; if the
    chosen suite has another group, the caller answers INVALID_KE_PAYLOAD.
    """
    spi_length = IKE_SPI_LENGTH if rekey else 0
    for proposal in offer.proposals:
        if proposal.protocol != ProtocolId.IKE or len(proposal.spi) != spi_length:
            continue
        for suite, transforms in _acceptable(proposal, policy, ke_group):
            chosen = Proposal(proposal.number, proposal.protocol, proposal.spi, transforms)
            return IkeChoice(suite, chosen)
    raise NoProposalChosen('none of the IKE proposals is acceptable')


def verify_ike_answer(
    offer: SaPayload, answer: SaPayload, policy: IkePolicy, *, rekey: bool = False
) -> IkeChoice:
    """As initiator: the suite that the peer chose from our `offer`. Raises InvalidAnswer."""
    chosen = check_answer(offer, answer)
    if len(chosen.spi) != (IKE_SPI_LENGTH if rekey else 0):
        raise InvalidAnswer(f'IKE SPI of {len(chosen.spi)} octets in the answer')
    # With one transform of each type there is at most one suite, and it uses all of them.
    for suite, _ in _acceptable(chosen, policy, None):
        return IkeChoice(suite, chosen)
    raise InvalidAnswer('the answer is no complete IKE suite')


def check_answer(offer: SaPayload, answer: SaPayload) -> Proposal:
    """The answer's one proposal, if it is consistent with ours (RFC 7296, 2.7 and 3.3.6).

    One proposal, with the number and protocol of one of ours; exactly one transform of each type
    that ours has and of no other, each one of ours with its attributes unchanged.
    Raises InvalidAnswer.
    """
    if len(answer.proposals) != 1:
        raise InvalidAnswer(f'{len(answer.proposals)} proposals in the answer')
    chosen = answer.proposals[0]
    offered = next((p for p in offer.proposals if p.number == chosen.number), None)
    if offered is None or offered.protocol != chosen.protocol:
        raise InvalidAnswer(f'proposal {chosen.number} was never offered')
    types = [transform.transform_type for transform in chosen.transforms]
    if len(set(types)) != len(types):
        raise InvalidAnswer('two transforms of one type in the answer')
    if set(types) != {transform.transform_type for transform in offered.transforms}:
        raise InvalidAnswer('the answer has other transform types than the offer')
    if not set(chosen.transforms) <= set(offered.transforms):
        raise InvalidAnswer('the answer has a transform that was not offered')
    return chosen


def none_of_additional(proposal: Proposal) -> tuple[Transform, ...]:
    """NONE for every type of additional key exchange in a proposal (RFC 9370, 2.2.1).

    A choice must have them; where NONE isn't on offer, no choice is possible.
    """
    return tuple(
        Transform(kind, KeyExchangeId.NONE) for kind in ADDITIONAL if proposal.of_type(kind)
    )


def _acceptable(
    proposal: Proposal, policy: IkePolicy, ke_group: int | None
) -> Iterator[tuple[IkeSuite, tuple[Transform, ...]]]:
    """Every suite of our policy that the proposal allows, the most wanted first."""
    if any(t.transform_type not in _UNDERSTOOD for t in proposal.transforms):
        return
    offered = frozenset(proposal.transforms)
    additional = none_of_additional(proposal)
    groups = sorted(policy.groups, key=lambda group: group != ke_group)
    for encryption in policy.encryptions:
        integ = _integrity(proposal, encryption)
        if integ is None:
            continue
        for prf in policy.prfs:
            for group in groups:
                needed = (
                    Transform.make(TransformType.ENCR, encryption.encr, encryption.key_bits),
                    Transform(TransformType.PRF, prf),
                    *integ,
                    Transform(TransformType.KE, group),
                    *additional,
                )
                if offered.issuperset(needed):
                    yield IkeSuite(encryption, prf, group), needed


def _integrity(proposal: Proposal, encryption: Encryption) -> tuple[Transform, ...] | None:
    """The INTEG transform of a choice: none or NONE for an AEAD (RFC 5282, 8); None if it fails."""
    offered = proposal.of_type(TransformType.INTEG)
    if encryption.integ is not None:
        wanted = Transform(TransformType.INTEG, encryption.integ)
        return (wanted,) if wanted in offered else None
    if not offered:
        return ()
    none = Transform(TransformType.INTEG, IntegrityId.NONE)
    return (none,) if none in offered else None
