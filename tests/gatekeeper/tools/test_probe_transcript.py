"""Whatever a peer sends, its story is short, printable, and told without a fault."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.tools.probe.advice import ADVICE, OTHERWISE, Circumstances, advice
from gatekeeper.tools.probe.transcript import LONGEST, Result, Step, Story
from ikev2.constants import ExchangeType, IdType, NotifyType
from ikev2.events import Cause, IkeMessage, RpSaFailed
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import AuthPayload, IdrPayload, NotifyPayload
from tests.ikev2.strategies import chains

KNOWN = Circumstances('10.0.0.1', '10.0.0.2', 500, 4500, 'fqdn r1', 'fqdn r2', 'default')
EXCHANGES = [kind.name for kind in ExchangeType]


def message(exchange: str, payloads: Sequence[Payload], *, response: bool = True) -> IkeMessage:
    return IkeMessage('peer', ExchangeType[exchange], False, response, tuple(payloads))


@given(st.sampled_from(EXCHANGES), chains, st.booleans(), st.booleans())
def test_any_payloads_make_a_line(
    exchange: str, payloads: list[Payload], response: bool, ppk: bool
) -> None:
    step = Story(KNOWN).message(message(exchange, payloads, response=response), ppk=ppk)
    assert step.text.isprintable()
    assert step.text
    assert step.result is Result.RECEIVED


@given(
    st.sampled_from(['IKE_SA_INIT', 'IKE_AUTH']),
    st.sampled_from(list(Cause)),
    st.text(max_size=30),
    st.lists(chains, max_size=3),
)
def test_any_failure_after_any_messages_is_explained(
    exchange: str, cause: Cause, text: str, before: list[list[Payload]]
) -> None:
    story = Story(KNOWN)
    for payloads in before:
        story.message(message(exchange, payloads))
    step = story.ike_failed(exchange, cause, text, 3, 1)
    assert step.result is Result.FAILED
    assert step.text
    assert step.advice


@given(st.sampled_from(list(Cause)), st.integers(0, 0xFFFF), st.text(max_size=30))
def test_any_refusal_of_a_key_is_explained(cause: Cause, notify: int, text: str) -> None:
    step = Story(KNOWN).rp_failed(RpSaFailed(1, 'peer', cause, notify, b'', text))
    assert step.text
    assert step.advice


def test_peers_own_text_is_cut_and_moves_no_cursor() -> None:
    payloads = (IdrPayload(IdType.FQDN, b'x' * 60_000), AuthPayload(2, bytes(32)))
    step = Story(KNOWN).message(message('IKE_AUTH', payloads))
    assert len(step.text) < LONGEST + 100
    assert '\x1b' not in Step('probe', Result.INFO, 'a\x1b[2Jb\nc').text


def test_octets_of_an_auth_payload_are_never_told() -> None:
    auth = AuthPayload(2, bytes.fromhex('deadbeef' * 8))
    step = Story(KNOWN).message(message('IKE_AUTH', (IdrPayload(IdType.FQDN, b'r2'), auth)))
    assert 'deadbeef' not in step.text


def test_keyids_in_use_are_told() -> None:
    notify = NotifyPayload(NotifyType.KEYID_IN_USE, b'\x07\x09')
    step = Story(KNOWN).message(message('CREATE_CHILD_SA', (notify,)))
    assert step.text == 'the peer has these KeyIDs in use: 7, 9'


@pytest.mark.parametrize(('step', 'cause'), ADVICE)
def test_every_advice_can_be_filled_in(step: str, cause: Cause | NotifyType | str) -> None:
    text = advice(step, (cause,), KNOWN)
    assert '{' not in text
    assert text != OTHERWISE or ADVICE[step, cause] == OTHERWISE
