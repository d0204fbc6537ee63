"""IKE suites: our offer, our choice from an offer, our check of an answer.

RFC 7296, 2.7 and 3.3; RFC 5282, 8 for AEADs; RFC 9370, 2.2.1 for additional key exchanges; RFC 8247
for the algorithms that are still good enough. RP SAs are negotiated in rp.py by the same rules; the
parts that both need are `check_answer` and `additional_choices`. Policies by name: policies.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from ikev2.constants import IntegrityId, KeyExchangeId, PrfId, ProtocolId, TransformType
from ikev2.crypto.cipher import AES_256_GCM_16, CHACHA20_POLY1305, Encryption
from ikev2.crypto.key_exchange import ADDITIONAL_METHODS, GROUPS, SECURITY_BITS
from ikev2.crypto.prf import PRFS
from ikev2.errors import InvalidAnswer, LocalError, NoProposalChosen
from ikev2.wire.payloads_sa import Proposal, SaPayload, Transform

IKE_SPI_LENGTH = 8

# The types that we understand in an IKE proposal; another type makes the proposal unacceptable (RFC
# 7296, 3.3.6).
ADDITIONAL = frozenset(range(TransformType.ADDKE1, TransformType.ADDKE7 + 1))
_OFFERED_TYPES = (TransformType.ADDKE1, TransformType.ADDKE2, TransformType.ADDKE3)
_UNDERSTOOD = frozenset(
    (TransformType.ENCR, TransformType.PRF, TransformType.INTEG, TransformType.KE, *ADDITIONAL)
)


@dataclass(frozen=True, slots=True)
class IkeSuite:
    """The algorithms of one IKE SA."""

    encryption: Encryption
    prf: PrfId
    group: KeyExchangeId
    additional: tuple[KeyExchangeId, ...] = ()
    """Additional key exchanges in the order of their exchanges (RFC 9370)."""

    def __str__(self) -> str:
        exchanges = '+'.join(_word(method) for method in (self.group, *self.additional))
        return f'{self.encryption.name}/{_word(self.prf)}/{exchanges}'


def _word(number: PrfId | KeyExchangeId) -> str:
    return number.name.lower().replace('_', '-')


@dataclass(frozen=True, slots=True)
class IkePolicy:
    """The acceptable algorithms of IKE SAs, the most preferred first."""

    encryptions: tuple[Encryption, ...] = (AES_256_GCM_16, CHACHA20_POLY1305)
    prfs: tuple[PrfId, ...] = (PrfId.HMAC_SHA2_256,)
    groups: tuple[KeyExchangeId, ...] = (
        KeyExchangeId.CURVE25519,
        KeyExchangeId.ECP_256,
        KeyExchangeId.MODP_2048,
    )
    additional: tuple[KeyExchangeId, ...] = ()
    """Methods allowed in an additional key exchange (RFC 9370)."""
    additional_required: bool = False
    """True if no SA is made without an additional key exchange; else it is only preferred."""

    def __post_init__(self) -> None:
        """Check that the policy can be met, and by this host. Raises LocalError if not."""
        if not (self.encryptions and self.prfs and self.groups):
            raise LocalError('a policy names an encryption, a PRF and a key exchange method')
        if not PRFS.issuperset(self.prfs) or not GROUPS.issuperset(self.groups):
            raise LocalError('a policy with a PRF or key exchange method that is not supported')
        if not ADDITIONAL_METHODS.issuperset(self.additional):
            raise LocalError('a policy with an additional key exchange that is not supported')
        if self.additional_required and not self.additional:
            raise LocalError('a policy that requires an additional key exchange names none')

    def offer(self, spi: bytes = b'') -> SaPayload:
        """Return our SA payload; `spi` is our new IKE SPI in a rekey and empty in IKE_SA_INIT.

        AEADs and CBC with HMAC go into separate proposals (RFC 7296, 3.3). Proposals with an
        additional key exchange are separate too, and come before those without: a peer that doesn't
        know RFC 9370 can't accept such a proposal, whatever else it contains.
        """
        combined = tuple(e for e in self.encryptions if e.aead)
        separate = tuple(e for e in self.encryptions if not e.aead)
        kinds = [kind for kind in (combined, separate) if kind]
        return SaPayload(
            tuple(
                Proposal(number, ProtocolId.IKE, spi, (*self._transforms(kind), *additional))
                for number, (additional, kind) in enumerate(
                    (
                        (additional, kind)
                        for additional in self.offered_additional
                        for kind in kinds
                    ),
                    1,
                )
            )
        )

    @property
    def offered_additional(self) -> tuple[tuple[Transform, ...], ...]:
        """Return the ADDKE transforms of our proposals, then, if policy allows it, an empty set.

        ADDKE1 alone comes first. A peer may want two additional exchanges, or another type than the
        first (RFC 9370, 2.2.1): the proposals after the first have every choice from ADDKE1 to
        ADDKE3, each with at least one method.
        """
        if not self.additional:
            return ((),)
        offers = [self._transforms_of(TransformType.ADDKE1)]
        for first in _OFFERED_TYPES:
            others = tuple(kind for kind in _OFFERED_TYPES if kind > first)
            if len(self.additional) == 1:
                others = ()  # no method is done twice
            more = (self._transforms_of(kind, KeyExchangeId.NONE) for kind in others)
            offers.append((*self._transforms_of(first), *chain.from_iterable(more)))
        distinct = tuple(dict.fromkeys(offers))
        return distinct if self.additional_required else (*distinct, ())

    def _transforms_of(self, kind: TransformType, *others: KeyExchangeId) -> tuple[Transform, ...]:
        return tuple(Transform(kind, method) for method in (*self.additional, *others))

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
    """The chosen suite, and the proposal that names it."""

    suite: IkeSuite
    proposal: Proposal
    """The proposal as chosen: the peer's number and SPI, one transform of each type."""

    @property
    def peer_spi(self) -> bytes:
        """Return the peer's new IKE SPI in a rekey; empty in IKE_SA_INIT."""
        return self.proposal.spi

    def answer(self, spi: bytes = b'') -> SaPayload:
        """Return our SA payload as responder; `spi` is our new IKE SPI in a rekey."""
        chosen = self.proposal
        return SaPayload((Proposal(chosen.number, chosen.protocol, spi, chosen.transforms),))


def select_ike(
    offer: SaPayload,
    policy: IkePolicy,
    ke_group: int | None,
    *,
    rekey: bool = False,
    intermediate: bool = True,
) -> IkeChoice:
    """Choose a suite from `offer`, as responder. Raises NoProposalChosen.

    The peer's order of proposals counts, then our order of algorithms. The group of the peer's KE
    payload (`ke_group`) is preferred to our order, since another group costs a round trip: in a
    rekey if we accept it at all, in IKE_SA_INIT only if it is as strong as the group that we would
    take. In IKE_SA_INIT an attacker may have demanded that group of the peer, and AUTH does not
    cover that demand: for this reason the peer repeats its whole offer (RFC 7296, 1.2 and 2.7). If
    the chosen suite has another group, the caller answers INVALID_KE_PAYLOAD. `intermediate` tells
    whether the peer supports an additional key exchange at all: in IKE_SA_INIT, whether it sent
    INTERMEDIATE_EXCHANGE_SUPPORTED (RFC 9370, 2.2.1).
    """
    methods = policy.additional if intermediate else ()
    spi_length = IKE_SPI_LENGTH if rekey else 0
    for proposal in offer.proposals:
        if proposal.protocol != ProtocolId.IKE or len(proposal.spi) != spi_length:
            continue
        groups = _groups(proposal, policy)
        if ke_group in groups and (rekey or _as_strong(ke_group, groups[0])):
            groups.sort(key=lambda group: group != ke_group)
        for suite, transforms in _acceptable(proposal, policy, methods, groups):
            chosen = Proposal(proposal.number, proposal.protocol, proposal.spi, transforms)
            return IkeChoice(suite, chosen)
    raise NoProposalChosen('none of the IKE proposals is acceptable')


def verify_ike_answer(
    offer: SaPayload, answer: SaPayload, policy: IkePolicy, *, rekey: bool = False
) -> IkeChoice:
    """Return, as initiator, the suite that the peer chose from our `offer`.

    Raises InvalidAnswer.
    """
    chosen = check_answer(offer, answer)
    if len(chosen.spi) != (IKE_SPI_LENGTH if rekey else 0):
        raise InvalidAnswer(f'IKE SPI of {len(chosen.spi)} octets in the answer')
    # With one transform of each type there is at most one suite, and it uses all of them.
    groups = _groups(chosen, policy)
    for suite, _ in _acceptable(chosen, policy, policy.additional, groups):
        return IkeChoice(suite, chosen)
    raise InvalidAnswer('the answer is no complete IKE suite')


def check_answer(offer: SaPayload, answer: SaPayload) -> Proposal:
    """Return the only proposal of an answer, if consistent with our offer (RFC 7296, 2.7 and
    3.3.6).

    The answer has one proposal, with the number and protocol of one of ours; exactly one transform
    of each type that our proposal has and of no other type, each one of ours with its attributes
    unchanged. Raises InvalidAnswer.
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


def additional_choices(
    proposal: Proposal, methods: Sequence[KeyExchangeId], *, required: bool
) -> Iterator[tuple[Transform, ...]]:
    """Yield every choice of additional key exchanges that a proposal allows, the most preferred
    first.

    A choice has one transform of each of the ADDKE types that the proposal has, and no method
    twice; NONE is a choice where it is on offer (RFC 9370, 2.2.1). `methods` are those that we
    accept, the most preferred first; with `required`, a choice must have at least one of them.
    """
    kinds = ADDITIONAL.intersection(t.transform_type for t in proposal.transforms)
    for choice in _assign(proposal, sorted(kinds), methods):
        if not required or chosen_additional(choice):
            yield choice


def chosen_additional(transforms: Sequence[Transform]) -> tuple[KeyExchangeId, ...]:
    """Return the additional key exchanges of a choice, in the order of their exchanges."""
    chosen = sorted(
        (t.transform_type, t.transform_id) for t in transforms if t.transform_type in ADDITIONAL
    )
    return tuple(KeyExchangeId(method) for _, method in chosen if method)


def _assign(
    proposal: Proposal, kinds: Sequence[int], methods: Sequence[KeyExchangeId]
) -> Iterator[tuple[Transform, ...]]:
    if not kinds:
        yield ()
        return
    kind, *others = kinds
    offered = proposal.of_type(kind)
    for method in (*methods, KeyExchangeId.NONE):
        transform = Transform(kind, method)
        if transform in offered:
            left = [other for other in methods if other != method]
            for rest in _assign(proposal, others, left):
                yield (transform, *rest)


def _groups(proposal: Proposal, policy: IkePolicy) -> list[KeyExchangeId]:
    """Return the groups that both the proposal and the policy allow, in our order."""
    offered = frozenset(proposal.of_type(TransformType.KE))
    return [group for group in policy.groups if Transform(TransformType.KE, group) in offered]


def _as_strong(group: int, wanted: int) -> bool:
    return SECURITY_BITS[group] >= SECURITY_BITS[wanted]


def _acceptable(
    proposal: Proposal,
    policy: IkePolicy,
    methods: Sequence[KeyExchangeId],
    groups: Sequence[KeyExchangeId],
) -> Iterator[tuple[IkeSuite, tuple[Transform, ...]]]:
    """Yield every suite of our policy that the proposal allows, the most preferred first.

    `groups` are the groups that both sides allow, in the order of preference.
    """
    if any(t.transform_type not in _UNDERSTOOD for t in proposal.transforms):
        return
    offered = frozenset(proposal.transforms)
    additional = next(
        additional_choices(proposal, methods, required=policy.additional_required), None
    )
    if additional is None:
        return
    # One type after the other: a long offer that does not fit must not cost the product of all our
    # algorithms.
    prfs = [prf for prf in policy.prfs if Transform(TransformType.PRF, prf) in offered]
    for encryption in policy.encryptions:
        encr = Transform.make(TransformType.ENCR, encryption.encr, encryption.key_bits)
        integ = _integrity(proposal, encryption) if encr in offered else None
        if integ is None:
            continue
        for prf in prfs:
            for group in groups:
                chosen = (
                    encr,
                    Transform(TransformType.PRF, prf),
                    *integ,
                    Transform(TransformType.KE, group),
                    *additional,
                )
                yield IkeSuite(encryption, prf, group, chosen_additional(additional)), chosen


def _integrity(proposal: Proposal, encryption: Encryption) -> tuple[Transform, ...] | None:
    """Return the INTEG transform of a choice: none or NONE for an AEAD (RFC 5282, 8); None if
    unfit.
    """
    offered = proposal.of_type(TransformType.INTEG)
    if encryption.integ is not None:
        wanted = Transform(TransformType.INTEG, encryption.integ)
        return (wanted,) if wanted in offered else None
    if not offered:
        return ()
    none = Transform(TransformType.INTEG, IntegrityId.NONE)
    return (none,) if none in offered else None
