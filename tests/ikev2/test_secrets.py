"""Secrets are dropped as soon as they aren't needed (RFC 7296, 2.12): whatever an engine makes of
them is wiped, or is what an IKE SA or our user still needs.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ikev2.authentication.auth import PresharedKey, PrivateKey
from ikev2.authentication.ppk import Ppk
from ikev2.constants import ExchangeType, KeyExchangeId, NotifyType
from ikev2.crypto.key_exchange import KeyExchange
from ikev2.errors import MalformedMessage
from ikev2.events import (
    Cause,
    Datagram,
    IkeSaFailed,
    IkeSaUp,
    RpSaKeys,
    RpSaNegotiated,
    RpSaRequested,
)
from ikev2.proposals.ike import IkePolicy
from ikev2.sa.ike_sa import IkeSa
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import NotifyPayload
from keymaterial import Secret
from tests.ikev2.bench import (
    LATENCY,
    Bench,
    deliver,
    is_kind,
    peer_a,
    peer_b,
    psk,
    rp_request,
    sas_of,
)
from tests.ikev2.test_ike_intermediate import TwoTypes

PLAIN = IkePolicy()
HYBRID = IkePolicy(additional=(KeyExchangeId.ML_KEM_768,), additional_required=True)
TWO = TwoTypes(
    additional=(KeyExchangeId.ML_KEM_768, KeyExchangeId.ML_KEM_1024), additional_required=True
)


def nothing(bench: Bench) -> None:
    """Just an IKE SA."""


def negotiate(bench: Bench) -> None:
    bench.negotiate(rp_request(1))
    assert bench.a.all(RpSaNegotiated)


def rekey(bench: Bench) -> None:
    before = sas_of(bench.a)[0].origin.spis
    bench.a.endpoint.rekey_ike_sa('b', bench.now)
    bench.settle()
    assert sas_of(bench.a)[0].origin.spis != before


def both_rekey(bench: Bench) -> None:
    bench.a.endpoint.rekey_ike_sa('b', bench.now)
    bench.b.endpoint.rekey_ike_sa('a', bench.now)
    bench.run(60)


def reauthenticate(bench: Bench) -> None:
    bench.a.endpoint.reauthenticate('b', bench.now)
    bench.run(5)


def cancel(bench: Bench) -> None:
    number = bench.a.endpoint.request('b', rp_request(1), bench.now)
    bench.run(0.005)
    bench.a.endpoint.cancel('b', number, bench.now)
    bench.settle()


def be_refused(bench: Bench) -> None:
    bench.b.obliging = False
    bench.negotiate(rp_request(1))
    token = bench.b.last(RpSaRequested).token
    bench.b.endpoint.refuse(token, NotifyType.TS_UNACCEPTABLE, b'', bench.now)
    bench.settle()


def lose_what_was_asked(bench: Bench) -> None:
    bench.a.endpoint.request('b', rp_request(1), bench.now)
    bench.run(0.025)
    bench.fate = lambda datagram: []
    bench.run(60)
    bench.fate = deliver
    bench.connect()


def lose_a_rekey(bench: Bench) -> None:
    bench.a.endpoint.rekey_ike_sa('b', bench.now)
    bench.run(0.025)
    bench.fate = lambda datagram: []
    bench.run(60)
    bench.fate = deliver
    bench.a.endpoint.connect('b', bench.now)
    bench.b.endpoint.check_liveness('a', bench.now)
    bench.run(60)


def refuse_the_last_follow_up(bench: Bench) -> None:
    """The secrets of the additional key exchanges before it are of no use then."""
    _answer_the_last_follow_up(bench, NotifyPayload(NotifyType.TEMPORARY_FAILURE))


def garble_the_last_follow_up(bench: Bench) -> None:
    _answer_the_last_follow_up(bench, NotifyPayload(40_000))


def _answer_the_last_follow_up(bench: Bench, notify: NotifyPayload) -> None:
    original = IkeSa.answer

    def answer(self: IkeSa, payloads: Sequence[Payload], now: float) -> None:
        asked = self._request[0].exchange_type if self._request else 0
        last = asked == ExchangeType.IKE_FOLLOWUP_KE and len(payloads) == 1
        original(self, [notify] if last else payloads, now)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(IkeSa, 'answer', answer)
        bench.negotiate(rp_request(1))
    if bench.a.endpoint._associations['b'].peer.policy.additional:
        assert not bench.a.all(RpSaNegotiated)


def lose_the_last_follow_up(bench: Bench) -> None:
    seen: list[Datagram] = []

    def fate(datagram: Datagram) -> list[float]:
        if is_kind(datagram, ExchangeType.IKE_FOLLOWUP_KE, response=False):
            seen.append(datagram)
        return [LATENCY] if len(seen) < 2 else []

    bench.fate = fate
    bench.negotiate(rp_request(1))
    bench.run(60)
    bench.fate = deliver
    bench.connect()


LIVES = [
    nothing,
    negotiate,
    rekey,
    both_rekey,
    reauthenticate,
    cancel,
    be_refused,
    lose_what_was_asked,
    lose_a_rekey,
    refuse_the_last_follow_up,
    garble_the_last_follow_up,
    lose_the_last_follow_up,
]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Secret]:
    """Every Secret from here on."""
    secrets: list[Secret] = []
    make = Secret.__init__

    def record(self: Secret, octets: bytes) -> None:
        make(self, octets)
        secrets.append(self)

    monkeypatch.setattr(Secret, '__init__', record)
    return secrets


def left(made: list[Secret]) -> list[Secret]:
    """Return the secrets that are still there."""
    return [one for one in made if len(one) and not one.wiped]


@pytest.mark.parametrize('policy', [PLAIN, HYBRID, TWO], ids=['plain', 'hybrid', 'two'])
@pytest.mark.parametrize('life', LIVES)
def test_secrets_left_are_those_needed(
    life: Callable[[Bench], None], policy: IkePolicy, made: list[Secret]
) -> None:
    bench = Bench(a=replace(peer_a(), policy=policy), b=replace(peer_b(), policy=policy))
    gc.collect()
    before = [one for one in gc.get_objects() if isinstance(one, KeyExchange)]
    made.clear()
    bench.connect()
    life(bench)
    bench.run(60)  # closed IKE SAs linger

    needed = [sa.keys.sk_d for node in (bench.a, bench.b) for sa in sas_of(node)]
    keys: list[RpSaKeys] = [*bench.a.accepted, *bench.b.accepted]
    keys += [event.keys for node in (bench.a, bench.b) for event in node.all(RpSaNegotiated)]
    needed += [key.master_key for key in keys]
    assert needed
    assert [one for one in left(made) if not any(one is other for other in needed)] == []
    sas = [sa for node in (bench.a, bench.b) for sa in sas_of(node)]
    assert {sa.keys.sk_d.wiped for sa in sas} == {False}
    # Nor what has taken keys over: ciphers have copies of their own.
    assert {sa._channel._before for sa in sas} == {None}

    gc.collect()
    after = [one for one in gc.get_objects() if isinstance(one, KeyExchange)]
    assert len(after) == len(before)


PPK = Ppk('lab', Secret(bytes(range(32))))
OPTIONAL = replace(PPK, required=False)
STRANGE = Ppk('another', Secret(bytes(range(32))), required=False)
OTHER = Ppk('lab', Secret(bytes(32)))


def with_ppk(a: Ppk | None, b: Ppk | None, *credentials: PresharedKey) -> Bench:
    """`a` is what A has; the credentials are what B has of its own, and for A."""
    return Bench(b=replace(peer_b(), ppk=a), a=replace(peer_a(*credentials), ppk=b))


UP: dict[str, Callable[[], Bench]] = {
    'no PPK': lambda: with_ppk(None, None),
    'both use it': lambda: with_ppk(PPK, PPK),
    'the responder goes on without it': lambda: with_ppk(OPTIONAL, STRANGE),
}
FAILING: dict[str, Callable[[], Bench]] = {
    'no PPK, no proof by the initiator': lambda: with_ppk(None, None, psk(), psk('other')),
    'no PPK, no proof by the responder': lambda: with_ppk(None, None, psk('other'), psk()),
    'one name, two PPKs': lambda: with_ppk(PPK, OTHER),
    'a PPK that the responder does not know': lambda: with_ppk(PPK, STRANGE),
    'no proof by the initiator': lambda: with_ppk(PPK, PPK, psk(), psk('other')),
    'no proof by the responder': lambda: with_ppk(PPK, PPK, psk('other'), psk()),
    'no proof by a responder without it': lambda: with_ppk(OPTIONAL, STRANGE, psk('other'), psk()),
}


def ends(bench: Bench) -> None:
    """A tries once, and everything comes to its end; closed IKE SAs linger."""
    bench.a.endpoint.connect('b', bench.now)
    bench.run(120)


@pytest.mark.parametrize('which', UP)
def test_keys_are_left_either_with_or_without_ppk(which: str, made: list[Secret]) -> None:
    bench = UP[which]()
    made.clear()
    ends(bench)
    needed = [sa.keys.sk_d for node in (bench.a, bench.b) for sa in sas_of(node)]
    assert len(needed) == 2
    assert len(left(made)) == 2
    assert all(any(one is other for other in needed) for one in left(made))


@pytest.mark.parametrize('which', FAILING)
def test_secrets_are_wiped_when_ike_auth_fails(which: str, made: list[Secret]) -> None:
    bench = FAILING[which]()
    made.clear()
    ends(bench)
    assert bench.a.all(IkeSaFailed)
    assert not sas_of(bench.a)
    assert not sas_of(bench.b)
    assert made
    assert not left(made)


def test_secrets_are_wiped_when_ike_auth_is_unanswered(made: list[Secret]) -> None:
    bench = with_ppk(PPK, PPK)
    made.clear()
    bench.fate = lambda d: [] if is_kind(d, ExchangeType.IKE_AUTH, response=False) else [LATENCY]
    ends(bench)
    assert bench.a.last(IkeSaFailed).cause == Cause.NO_ANSWER
    assert made
    assert not left(made)


def test_secrets_are_wiped_when_ike_auth_cannot_be_sent(
    made: list[Secret], monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256_only = NotifyPayload(NotifyType.SIGNATURE_HASH_ALGORITHMS, b'\0\2')
    monkeypatch.setattr('ikev2.exchanges.ike_init_responder.signature_hashes', lambda: sha256_only)
    a, b = (PrivateKey(Ed25519PrivateKey.generate()) for _ in range(2))
    bench = Bench(
        b=replace(peer_b(a, b.public_key), ppk=PPK), a=replace(peer_a(b, a.public_key), ppk=PPK)
    )
    made.clear()
    ends(bench)
    assert "didn't announce" in bench.a.last(IkeSaFailed).text
    assert made
    assert not left(made)


@pytest.mark.parametrize('responder', [False, True], ids=['request', 'answer'])
def test_secrets_are_wiped_when_ike_auth_is_malformed(
    responder: bool, made: list[Secret], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> float | None:
        raise MalformedMessage('a certificate that is none')

    bench = with_ppk(PPK, PPK)
    made.clear()
    bench.a.endpoint.connect('b', bench.now)
    bench.run(LATENCY * 3.5 if responder else LATENCY * 2.5)
    monkeypatch.setattr('ikev2.exchanges.ike_auth.verify_auth', fails)
    bench.run(120)
    assert bench.a.last(IkeSaFailed).step == 'IKE_AUTH'
    assert bool(bench.b.all(IkeSaUp)) is responder
    assert made
    assert not [one for one in left(made) if not any(one is sa.keys.sk_d for sa in sas_of(bench.b))]
