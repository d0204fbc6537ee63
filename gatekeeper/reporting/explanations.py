"""Explanations of failures: the step, the cause as a text, and the reason with its hint."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gatekeeper.reporting.reasons import BY_CAUSE, BY_FAULT, BY_NOTIFY, Reason
from ikev2.constants import NotifyType
from ikev2.errors import FailureText, ProofFault, fault_of
from ikev2.events import Cause, IkeSaFailed, RpSaFailed

MOST_PASSED_OVER = 3
"""Lighter explanations in a row after which a heavier one, which has not been repeated, is
outdated."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The reason why there is no protected connection."""

    step: str
    cause: str
    hint: str
    """The advice: what to try next."""
    reason: Reason = Reason.OTHER
    passed_over: int = 0
    """Number of lighter explanations since."""

    @classmethod
    def of(cls, reason: Reason, step: str, cause: str) -> Explanation:
        """Make an explanation with the hint of its reason."""
        return cls(step, cause, reason.hint, reason)

    def __str__(self) -> str:
        return f'{self.step}: {self.cause}'


def weightier(known: Explanation | None, new: Explanation) -> Explanation:
    """Return the explanation to show from now on: a consequence does not hide its cause.

    The heavier one stays, unless only lighter ones have come for a while: then its fault was
    repaired.
    """
    if (
        known is None
        or new.reason.weight >= known.reason.weight
        or known.passed_over >= MOST_PASSED_OVER
    ):
        return new
    return replace(known, passed_over=known.passed_over + 1)


def heaviest(*explanations: Explanation | None) -> Explanation | None:
    """Return the explanation that explains most, the first of equals; None if there is none."""
    there = [one for one in explanations if one is not None]
    return max(there, key=lambda one: one.reason.weight, default=None)


UNSEEN = 'segments of this connection were neither signed nor verified'
"""The packet process verified no good segment, or the peer sent none."""

REFUSED_US = FailureText('the peer refused our identity or our proof of it', ProofFault.REFUSED_US)

_NOTIFY_TEXTS: dict[int, str] = {
    NotifyType.TS_UNACCEPTABLE: 'no such session at the peer',
    NotifyType.NO_PROPOSAL_CHOSEN: str(Cause.NO_PROPOSAL_CHOSEN),
    NotifyType.NO_ADDITIONAL_SAS: 'the peer has no room for another session',
    NotifyType.TEMPORARY_FAILURE: 'the peer is busy or short of memory',
    NotifyType.KEYID_IN_USE: 'no KeyID that both ends can take',
    NotifyType.CHILD_SA_NOT_FOUND: 'the peer does not know the key',
}


def explain_ike_failure(failure: IkeSaFailed) -> Explanation:
    """Return why there is no IKE SA."""
    text = f'{failure.cause}: {failure.text}' if failure.text else str(failure.cause)
    return Explanation.of(_ike_reason(failure), failure.step, text)


def _ike_reason(failure: IkeSaFailed) -> Reason:
    fault = fault_of(failure.text)
    if failure.cause is Cause.UNKNOWN_IDENTITY:
        return Reason.WRONG_IDENTITY
    if fault is not None and (
        failure.cause is Cause.AUTHENTICATION_FAILED or fault is ProofFault.PPK
    ):
        return BY_FAULT[fault]
    if failure.cause is Cause.NO_PROPOSAL_CHOSEN:
        return Reason.NO_IKE_PROPOSAL
    return BY_CAUSE[failure.cause]


def explain(step: str, failure: RpSaFailed, ike: Explanation | None) -> Explanation:
    """Return why a request failed; `ike` is why there is no IKE SA, None if there is one."""
    reason = BY_NOTIFY.get(failure.notify or 0)
    if reason is not None:
        return Explanation.of(reason, step, _NOTIFY_TEXTS[failure.notify or 0])
    if ike is not None:
        # The request was never sent.
        return ike
    if failure.cause is Cause.AUTHENTICATION_FAILED:
        # The IKE SA was up on our side, until the peer had checked our proof.
        return explain_ike_failure(IkeSaFailed(failure.peer, 'IKE_AUTH', failure.cause, REFUSED_US))
    known = failure.text in ('', str(failure.cause))
    text = str(failure.cause) if known else f'{failure.cause}: {failure.text}'
    return Explanation.of(BY_CAUSE[failure.cause], step, text)
