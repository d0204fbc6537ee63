"""Advice to an operator, by what has failed."""

from __future__ import annotations

import pytest

from gatekeeper.reporting.explanations import (
    MOST_PASSED_OVER,
    REFUSED_US,
    Explanation,
    explain,
    explain_ike_failure,
    heaviest,
    weightier,
)
from gatekeeper.reporting.reasons import BY_CAUSE, BY_FAULT, Reason
from ikev2.constants import NotifyType
from ikev2.errors import FailureText, ProofFault
from ikev2.events import Cause, IkeSaFailed, RpSaFailed

AUTH = Cause.AUTHENTICATION_FAILED


@pytest.mark.parametrize(
    ('cause', 'text', 'hint'),
    [
        (AUTH, FailureText('reworded', ProofFault.PSK), 'the same psk-file'),
        (AUTH, REFUSED_US, "why is in the peer's log"),
        (AUTH, FailureText('reworded', ProofFault.CERTIFICATE), "renew the peer's certificate"),
        (AUTH, FailureText('reworded', ProofFault.KEY), 'gatekeeper fingerprint'),
        (AUTH, FailureText('reworded', ProofFault.METHOD), 'same kind of credential'),
        (AUTH, FailureText('reworded', ProofFault.PPK), 'the same ppk-file'),
        (Cause.REFUSED, FailureText('reworded', ProofFault.PPK), 'the same ppk-file'),
        (Cause.UNKNOWN_IDENTITY, 'the peer says that it is fqdn a', 'correct peer-id here'),
        (Cause.NO_PROPOSAL_CHOSEN, 'the peer answered', 'compare ike-policy'),
        (Cause.NO_ANSWER, 'no answer from 10.0.0.2 UDP port 500', 'gatekeeper probe'),
        (Cause.MALFORMED, '', "look at the peer's version"),
    ],
)
def test_explanation_covers_an_ike_sa_that_failed(cause: Cause, text: str, hint: str) -> None:
    trouble = explain_ike_failure(IkeSaFailed('r2', 'IKE_AUTH', cause, text))
    assert hint in trouble.hint
    assert str(trouble) == f'IKE_AUTH: {cause}' + (f': {text}' if text else '')


def failed(cause: Cause, notify: int | None = None, text: str = '') -> RpSaFailed:
    return RpSaFailed(1, 'r2', cause, notify, b'', text)


def test_unsent_request_has_the_failure_of_ike() -> None:
    """Not of the session: `algorithm` has nothing to do with ike-policy."""
    ike = Explanation('IKE_SA_INIT', 'no acceptable proposal', 'compare ike-policy at both ends')
    assert explain('rekey', failed(Cause.NO_PROPOSAL_CHOSEN), ike) is ike


def test_refused_request_has_its_own_failure() -> None:
    ike = Explanation('IKE_SA_INIT', 'no IKE answer', 'look')
    failure = failed(Cause.NO_PROPOSAL_CHOSEN, NotifyType.NO_PROPOSAL_CHOSEN)
    assert explain('rekey', failure, ike).hint == 'compare algorithm and tcp-options at both ends'


def test_peer_refuses_us_when_it_withdraws_its_proof() -> None:
    trouble = explain('rekey', failed(AUTH, text='the peer sent AUTHENTICATION_FAILED'), None)
    assert trouble == explain_ike_failure(IkeSaFailed('r2', 'IKE_AUTH', AUTH, REFUSED_US))


def test_every_cause_and_fault_has_a_reason() -> None:
    assert set(BY_CAUSE) == set(Cause)
    assert set(BY_FAULT) == set(ProofFault)
    assert len({reason.word for reason in Reason}) == len(Reason)


FOUND = Explanation.of(Reason.CERTIFICATE_REFUSED, 'IKE_AUTH', 'it has expired')
SAID = Explanation.of(Reason.REFUSED_US, 'IKE_AUTH', 'the peer refused our proof')
NOTHING = Explanation.of(Reason.NO_IKE_ANSWER, 'IKE', 'no IKE answer')


def test_weightier_keeps_the_cause_when_a_consequence_comes() -> None:
    """This end's own finding comes before what the peer said, and that before "no session"."""
    assert weightier(FOUND, SAID).reason is FOUND.reason
    assert weightier(SAID, NOTHING).reason is SAID.reason
    assert weightier(NOTHING, FOUND) is FOUND


def test_weightier_lets_go_of_what_does_not_come_again() -> None:
    shown = FOUND
    for _ in range(MOST_PASSED_OVER):
        shown = weightier(shown, NOTHING)
    assert shown.reason is FOUND.reason
    assert weightier(shown, NOTHING) is NOTHING


def test_weightier_begins_anew_when_the_cause_comes_again() -> None:
    shown = weightier(weightier(FOUND, NOTHING), FOUND)
    assert shown.passed_over == 0


def test_heaviest_takes_the_first_of_equals() -> None:
    assert heaviest(None, NOTHING, FOUND, SAID) is FOUND
    assert heaviest(None, None) is None
