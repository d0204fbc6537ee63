"""What an operator is told to try next, by what has failed."""

from __future__ import annotations

import pytest

from gatekeeper.reporting.explanations import HINTS, REFUSED_US, Explanation, at_ike, explain
from ikev2.constants import NotifyType
from ikev2.events import Cause, IkeSaFailed, RpSaFailed

AUTH = Cause.AUTHENTICATION_FAILED


@pytest.mark.parametrize(
    ('cause', 'text', 'hint'),
    [
        (AUTH, 'the pre-shared keys differ', 'the same psk-file'),
        (AUTH, REFUSED_US, "why is in the peer's log"),
        (AUTH, "the peer's certificate: CN=r2 was revoked", "renew the peer's certificate"),
        (AUTH, "the peer's public key has another fingerprint", 'gatekeeper fingerprint'),
        (AUTH, 'the signature is wrong', 'gatekeeper fingerprint'),
        (AUTH, 'the peer authenticates by method 2, 14 is configured', 'same kind of credential'),
        (AUTH, 'the peer uses no PPK, and one is required', 'the same ppk-file'),
        (Cause.REFUSED, 'the peer does not know PPKs (RFC 8784)', 'the same ppk-file'),
        (Cause.UNKNOWN_IDENTITY, 'the peer says that it is fqdn a', 'correct peer-id here'),
        (Cause.NO_PROPOSAL_CHOSEN, 'the peer answered', 'compare ike-policy'),
        (Cause.NO_ANSWER, 'no answer from 10.0.0.2 UDP port 500', 'gatekeeper probe'),
        (Cause.MALFORMED, '', "look at the peer's version"),
    ],
)
def test_of_an_ike_sa_that_could_not_be_made(cause: Cause, text: str, hint: str) -> None:
    trouble = at_ike(IkeSaFailed('r2', 'IKE_AUTH', cause, text))
    assert hint in trouble.hint
    assert str(trouble) == f'IKE_AUTH: {cause}' + (f': {text}' if text else '')


def failed(cause: Cause, notify: int | None = None, text: str = '') -> RpSaFailed:
    return RpSaFailed(1, 'r2', cause, notify, b'', text)


def test_a_request_that_never_left_has_the_trouble_of_ike() -> None:
    """Not of the session: `algorithm` has nothing to do with ike-policy."""
    ike = Explanation('IKE_SA_INIT', 'no acceptable proposal', 'compare ike-policy at both ends')
    assert explain('rekey', failed(Cause.NO_PROPOSAL_CHOSEN), ike) is ike


def test_a_refused_request_has_its_own_trouble() -> None:
    ike = Explanation('IKE_SA_INIT', 'no IKE answer', 'look')
    failure = failed(Cause.NO_PROPOSAL_CHOSEN, NotifyType.NO_PROPOSAL_CHOSEN)
    assert explain('rekey', failure, ike).hint == 'compare algorithm and tcp-options at both ends'


def test_a_peer_that_takes_back_its_belief_refuses_us() -> None:
    trouble = explain('rekey', failed(AUTH, text='the peer sent AUTHENTICATION_FAILED'), None)
    assert trouble == at_ike(IkeSaFailed('r2', 'IKE_AUTH', AUTH, REFUSED_US))


def test_every_cause_has_something_to_try() -> None:
    assert set(Cause) <= set(HINTS)
