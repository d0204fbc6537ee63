"""An IKE SA, a routing-protocol SA over it, its successor and its end, on a faultless network."""

from __future__ import annotations

from ikev2.constants import ExchangeType
from ikev2.events import (
    DeleteAnswered,
    IkeMessage,
    IkeSaUp,
    KeysDeleted,
    RpSaNegotiated,
    RpSaRequested,
)
from tests.ikev2.bench import SESSION_ID, Bench, header_of, rp_request


def test_ike_sa_comes_up_at_both_ends_in_four_messages() -> None:
    bench = Bench()
    bench.connect()
    assert bench.a.last(IkeSaUp).initiator
    assert not bench.b.last(IkeSaUp).initiator
    assert bench.a.last(IkeSaUp).spis == bench.b.last(IkeSaUp).spis
    kinds = [(header_of(d).exchange_type, header_of(d).response) for d in bench.wire]
    assert kinds == [
        (ExchangeType.IKE_SA_INIT, False),
        (ExchangeType.IKE_SA_INIT, True),
        (ExchangeType.IKE_AUTH, False),
        (ExchangeType.IKE_AUTH, True),
    ]


def test_ends_share_key_and_mirrored_keyids() -> None:
    bench = Bench()
    number = bench.negotiate(rp_request(1))
    done = bench.a.last(RpSaNegotiated)
    (theirs,) = bench.b.accepted
    assert done.exchange == number
    assert (done.keys.send_id, done.keys.recv_id) == (1, 0x11)
    assert (theirs.send_id, theirs.recv_id) == (0x11, 1)
    assert done.keys.master_key == theirs.master_key
    assert len(done.keys.master_key) == 20
    assert done.keys.lowest_nonce == theirs.lowest_nonce
    assert (done.keys.lifetime, theirs.lifetime) == (1800, 3600)


def test_responder_sees_the_request() -> None:
    bench = Bench()
    request = rp_request(7, rekey=None)
    bench.negotiate(request)
    offer = bench.b.last(RpSaRequested).offer
    assert (offer.keyid, offer.tsi, offer.tsr) == (7, request.tsi, request.tsr)
    assert offer.session_id == SESSION_ID
    assert offer.lifetime == 3600
    assert offer.rekey_keyid is None
    assert offer.proposals == (('hmac-sha-1-96', True), ('aes-128-cmac-96', True))


def test_successor_names_replaced_mkt_and_has_other_key() -> None:
    bench = Bench()
    bench.negotiate(rp_request(1))
    bench.negotiate(rp_request(2, rekey=1))
    assert bench.b.last(RpSaRequested).offer.rekey_keyid == 1
    first, second = bench.a.all(RpSaNegotiated)
    assert first.keys.master_key != second.keys.master_key


def test_responder_may_request_over_same_ike_sa() -> None:
    bench = Bench()
    bench.negotiate()
    request = rp_request(9, rekey=0x11)
    bench.b.endpoint.request('a', request, bench.now)
    bench.settle()
    assert bench.b.last(RpSaNegotiated).keys.master_key == bench.a.accepted[0].master_key
    assert len(bench.a.all(IkeSaUp)) == 1


def test_delete_names_senders_ids_and_is_answered() -> None:
    bench = Bench()
    bench.negotiate(rp_request(1))
    number = bench.a.endpoint.delete('b', (1,), bench.now)
    bench.settle()
    assert bench.b.last(KeysDeleted).recv_ids == (1,)
    assert bench.a.last(DeleteAnswered) == DeleteAnswered(number, 'b', True)


def test_message_events_have_no_secrets() -> None:
    bench = Bench()
    bench.negotiate()
    told = [(m.exchange, m.sent, m.response) for m in bench.a.all(IkeMessage)]
    assert told[:3] == [
        ('IKE_SA_INIT', True, False),
        ('IKE_SA_INIT', False, True),
        ('IKE_AUTH', True, False),
    ]
    asked = next(m for m in bench.b.all(IkeMessage) if m.exchange == 'CREATE_CHILD_SA')
    assert asked.detail == (
        'SA(TCP_AO), Nonce, KE, TSi(10.0.0.1 40001), TSr(10.0.0.2 179), '
        'N(MKT_LIFETIME), N(SESSION_ID)'
    )
