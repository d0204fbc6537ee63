"""An RP SA in IKE_AUTH, as responder: no key exchange of its own (RFC 7296, 1.2 and 2.17)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ikev2.constants import NotifyType, ProtocolId, TransformType
from ikev2.crypto.keys import child_keymat
from ikev2.events import (
    Cause,
    IkeSaDown,
    IkeSaUp,
    InitialContact,
    RpSaNegotiated,
    RpSaOffer,
    RpSaRequested,
)
from ikev2.exchanges.ike_auth import Authenticate
from ikev2.exchanges.rp_pending import lifetime_notify, read_lifetime
from ikev2.proposals.rp import offer_rp
from ikev2.sa.ike_sa import IkeSa
from ikev2.wire.message import Message
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import AuthPayload, KeyExchangePayload, NoncePayload, NotifyPayload
from ikev2.wire.payloads_sa import Proposal, SaPayload, Transform
from ikev2.wire.payloads_ts import TsiPayload, TsrPayload
from tests.ikev2.bench import Bench, rp_request, sas_of

REQUEST = rp_request(9)
OFFER = offer_rp(9, REQUEST.suites, [True], ())


def child(offer: SaPayload = OFFER) -> list[Payload]:
    """Return A's request beside its proof."""
    return [
        offer,
        TsiPayload.of(REQUEST.tsi),
        TsrPayload.of(REQUEST.tsr),
        lifetime_notify(777),
        NotifyPayload(NotifyType.SESSION_ID, REQUEST.session_id or b''),
    ]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Payload]], Bench]:
    """A bench in which A asks for a child in IKE_AUTH; `answers` has what it was told."""
    request, answered = Authenticate.request, Authenticate.answered

    def start(extra: list[Payload]) -> Bench:
        bench = Bench()

        def with_child(self: Authenticate, sa: IkeSa, now: float) -> list[Payload] | None:
            payloads = request(self, sa, now)
            return None if payloads is None else [*payloads, *extra]

        def keep(self: Authenticate, sa: IkeSa, message: Message, now: float) -> None:
            ANSWERS.append(message)
            answered(self, sa, message, now)

        monkeypatch.setattr(Authenticate, 'request', with_child)
        monkeypatch.setattr(Authenticate, 'answered', keep)
        return bench

    ANSWERS.clear()
    return start


ANSWERS: list[Message] = []
Ask = Callable[[list[Payload]], Bench]


def errors() -> list[int]:
    """Return the errors in the one answer."""
    (answer,) = ANSWERS
    return [n.notify_type for n in answer.all(NotifyPayload) if n.notify_type < 16384]


def test_ike_sa_and_rp_sa_come_up_together(ask: Ask) -> None:
    bench = ask(child())
    bench.connect()
    (answer,) = ANSWERS
    assert answer.find(AuthPayload)
    assert answer.find(KeyExchangePayload) is None
    assert answer.find(NoncePayload) is None
    assert (answer.require(TsiPayload), answer.require(TsrPayload)) == tuple(child()[1:3])
    assert read_lifetime(answer) == 1800
    (proposal,) = answer.require(SaPayload).proposals
    assert (proposal.protocol, proposal.spi) == (ProtocolId.TCP_AO, b'\x11')
    assert not proposal.of_type(TransformType.KE)
    assert bench.a.all(IkeSaUp)
    assert bench.b.all(IkeSaUp)


def test_first_rp_sa_key_is_keymat_of_ike_sa_init_nonces(ask: Ask) -> None:
    bench = ask(child())
    bench.connect()
    (sa,) = sas_of(bench.a)
    origin = sa.origin
    (keys,) = bench.b.accepted
    wanted = child_keymat(origin.suite.prf, sa.keys.sk_d, origin.ni, origin.nr, 20)
    assert keys.master_key == wanted
    assert keys.lowest_nonce == min(origin.ni, origin.nr)
    assert (keys.send_id, keys.recv_id, keys.lifetime) == (0x11, 9, 777)


def test_first_rp_sa_offer_is_like_later_ones(ask: Ask) -> None:
    bench = ask(child())
    bench.connect()
    assert bench.b.last(RpSaRequested).offer == RpSaOffer(
        keyid=9,
        tsi=REQUEST.tsi,
        tsr=REQUEST.tsr,
        session_id=REQUEST.session_id,
        lifetime=777,
        rekey_keyid=None,
        keyids_in_use=(),
        proposals=(('hmac-sha-1-96', True), ('aes-128-cmac-96', True)),
    )


def test_initial_contact_precedes_request_in_ike_auth(ask: Ask) -> None:
    """Else what it just made would be taken for one of the dead connections."""
    bench = ask(child())
    bench.connect()
    kinds = [type(event) for event in bench.b.story()]
    assert kinds.index(InitialContact) < kinds.index(RpSaRequested)


def test_ike_auth_answer_waits_for_user(ask: Ask) -> None:
    bench = ask(child())
    bench.b.obliging = False
    bench.connect()
    bench.run(3)
    assert not ANSWERS
    assert not bench.b.all(IkeSaUp)
    bench.b.accept(bench.b.last(RpSaRequested), bench.now)
    bench.settle()
    assert bench.a.all(IkeSaUp)
    assert len(bench.b.all(RpSaRequested)) == 1


def test_ike_sa_stays_when_first_child_is_refused(ask: Ask) -> None:
    bench = ask(child())
    bench.b.obliging = False
    bench.connect()
    token = bench.b.last(RpSaRequested).token
    bench.b.endpoint.refuse(token, NotifyType.TS_UNACCEPTABLE, b'', bench.now)
    bench.settle()
    assert errors() == [NotifyType.TS_UNACCEPTABLE]
    bench.b.obliging = True
    bench.negotiate()
    assert bench.a.all(RpSaNegotiated)


def with_key_exchange() -> SaPayload:
    proposal = OFFER.proposals[0]
    transforms = (*proposal.transforms, Transform(TransformType.KE, 31))
    return SaPayload((Proposal(proposal.number, proposal.protocol, proposal.spi, transforms),))


def test_first_child_with_key_exchange_is_refused(ask: Ask) -> None:
    bench = ask(child(with_key_exchange()))
    bench.connect()
    assert errors() == [NotifyType.NO_PROPOSAL_CHOSEN]
    assert bench.a.all(IkeSaUp)


def test_first_child_is_refused_without_profile(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('ikev2.exchanges.ike_init_responder.speaks_profile', lambda message: False)
    bench = ask(child())
    bench.connect()
    assert errors() == [NotifyType.NO_PROPOSAL_CHOSEN]
    assert bench.b.all(IkeSaUp)


def test_first_child_is_refused_through_nat(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        'ikev2.exchanges.ike_init_responder.on_path', lambda message, datagram: True
    )
    bench = ask(child())
    bench.connect()
    assert errors() == [NotifyType.TS_UNACCEPTABLE]


def test_first_child_without_selectors_ends_ike_sa(ask: Ask) -> None:
    bench = ask([OFFER])
    bench.connect()
    bench.settle()
    assert not sas_of(bench.b)
    assert not bench.a.all(IkeSaUp)


def test_user_is_told_when_its_keys_come_too_late(ask: Ask) -> None:
    bench = ask(child())
    bench.b.obliging = False
    bench.connect()
    token = bench.b.last(RpSaRequested).token
    assert bench.b.endpoint.prepare(token, 'hmac-sha-1-96', True, 5, 60, bench.now)
    bench.run(60)
    assert not bench.b.endpoint.answer(token, bench.now)
    assert not bench.b.all(IkeSaUp)


def test_late_decision_of_user_changes_nothing(ask: Ask) -> None:
    bench = ask(child())
    bench.b.obliging = False
    bench.connect()
    bench.run(60)
    assert not sas_of(bench.b)
    bench.b.accept(bench.b.last(RpSaRequested), bench.now)
    bench.settle()
    assert not bench.b.all(IkeSaUp)
    assert not bench.b.all(IkeSaDown)
    assert bench.a.story()[-1].__class__.__name__ == 'IkeSaFailed'
    assert Cause.NO_ANSWER in [getattr(e, 'cause', None) for e in bench.a.story()]
