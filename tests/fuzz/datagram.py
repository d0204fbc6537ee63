"""A fuzz target: datagrams from the network, and what an authenticated peer may put into them.

    python -m tests.fuzz.datagram build/fuzz/found tests/fuzz/corpus -max_total_time=60

The first octet of an input chooses what the rest is: a datagram as it is; the payloads of an
IKE_SA_INIT request; payloads that are sealed under the keys of an IKE SA, as a request or as the
answer to one, or as the first request of a peer that has proved nothing yet; the answers to our
IKE_SA_INIT and IKE_AUTH; IKE_FOLLOWUP_KE both ways. So mutations get
behind the integrity check, which they could never pass.
`run` needs no atheris: the tests feed it the corpus.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import cast

# Before anything of `ikev2` is imported, when this is the program that runs.
if __name__ == '__main__' and sys.argv[1:] != ['--seeds']:
    import atheris

    with atheris.instrument_imports(include=['ikev2']):
        import ikev2.endpoint
        import ikev2.udp  # noqa: F401

from ikev2.constants import ExchangeType, NotifyType, PayloadType
from ikev2.crypto.cipher import Cipher
from ikev2.errors import IntegrityFailure
from ikev2.events import Datagram, RpSaRequested
from ikev2.limits import Limits
from ikev2.proposals.policies import POLICIES
from ikev2.sa.ike_sa import IkeSa
from ikev2.sa.protection import is_fragment, open_message
from ikev2.wire.message import HEADER_LENGTH, Header, encode_chain
from tests.ikev2.bench import (
    A_ADDRESS,
    B_ADDRESS,
    LATENCY,
    Bench,
    is_kind,
    peer_a,
    peer_b,
    rp_request,
    sas_of,
)

CORPUS = Path(__file__).parent / 'corpus'
DATAGRAM, INIT, REQUEST, ANSWER, FRAGMENT, STRANGER, INIT_ANSWER, AUTH_ANSWER, FOLLOW_UP = range(9)
KINDS = 9
EXCHANGES = (
    ExchangeType.CREATE_CHILD_SA,
    ExchangeType.INFORMATIONAL,
    ExchangeType.IKE_AUTH,
    ExchangeType.IKE_SA_INIT,
    200,
)
# What an unknown host gets to with a key exchange alone: the first request under the keys.
HALF_OPEN = (ExchangeType.IKE_AUTH, ExchangeType.IKE_INTERMEDIATE)
MOST_DATAGRAMS = 4
"""An input's answer, what it sets off, and a repetition of each: no input makes us talk more."""


class Target:
    """Two ends with an IKE SA, made anew when an input has ended it."""

    def __init__(self) -> None:
        self._bench = Bench()
        self._left = 0

    def run(self, data: bytes) -> None:
        """One input. Raises what the engine raises, or AssertionError."""
        if not data:
            return
        kind, rest = data[0] % KINDS, data[1:]
        if kind in _ALONE:
            _ALONE[kind](rest)
            return
        if self._left == 0 or len(sas_of(self._bench.a)) != 1 or len(sas_of(self._bench.b)) != 1:
            self._bench = Bench()
            self._bench.connect()
            self._left = 500
        self._left -= 1
        bench = self._bench
        sent = len(bench.wire)
        if kind == DATAGRAM:
            bench.inject(_from_a(rest))
        elif kind == INIT and rest:
            header = Header(bytes([self._left % 255 + 1] * 8), bytes(8), 34, 0, True, False)
            datagram = header.encode(rest[0], HEADER_LENGTH + len(rest) - 1) + rest[1:]
            bench.inject(_from_a(datagram))
        elif kind in (REQUEST, FRAGMENT) and len(rest) >= 2:
            (sa,), (asked,) = sas_of(bench.a), sas_of(bench.b)
            exchange = EXCHANGES[rest[0] % len(EXCHANGES)]
            header = _header(sa, exchange, asked._answers.expected, response=False)
            bench.inject(_from_a(_seal(sa, header, rest[1], rest[2:], fragment=kind == FRAGMENT)))
            sa._next_id = asked._answers.expected
        elif kind == ANSWER and rest:
            self._answer(rest)
        bench.run(0.05)
        assert len(bench.wire) - sent <= MOST_DATAGRAMS
        assert len(bench.b.endpoint._context.sas) < 600
        assert len(bench.b.endpoint._context.pending) < 600
        bench.wire.clear()
        for node in (bench.a, bench.b):
            node.events.clear()
            node.accepted.clear()
        bench.run(2)

    def _answer(self, rest: bytes) -> None:
        bench = self._bench
        bench.b.obliging = False
        bench.a.endpoint.request('b', rp_request(1), bench.now)
        bench.run(0.03)
        (asking,), (sa,) = sas_of(bench.a), sas_of(bench.b)
        expected = asking._next_id - 1
        header = _header(sa, ExchangeType.CREATE_CHILD_SA, expected, response=True)
        bench.inject(_from_b(_seal(sa, header, rest[0], rest[1:], fragment=False)))
        bench.run(0.03)
        for event in bench.b.all(RpSaRequested):
            bench.b.endpoint.refuse(event.token, NotifyType.TEMPORARY_FAILURE, b'', bench.now)
        bench.b.obliging = True


def _stranger(rest: bytes) -> None:
    """The request after IKE_SA_INIT. None has a proof: each AUTH is about new key exchanges."""
    if len(rest) < 2:
        return
    exchange = HALF_OPEN[rest[0] % len(HALF_OPEN)]
    bench = half_open(exchange)
    (sa,), (asked,) = sas_of(bench.a), sas_of(bench.b)
    sent = len(bench.wire)
    header = _header(sa, exchange, 1, response=False)
    bench.inject(_from_a(_seal(sa, header, rest[1], rest[2:], fragment=False)))
    bench.run(0.05)
    assert len(bench.wire) - sent <= MOST_DATAGRAMS
    assert not asked.finished


def _init_answer(rest: bytes) -> None:
    """The answer to our IKE_SA_INIT, of a host that has seen that."""
    if not rest:
        return
    bench = asked_init()
    request = Header.decode(bench.wire[-1].data)
    header = replace(request, responder_spi=bytes(range(8)), initiator=False, response=True)
    answer = header.encode(rest[0], HEADER_LENGTH + len(rest) - 1) + rest[1:]
    _inject_alone(bench, _from_b(answer))


def _auth_answer(rest: bytes) -> None:
    """The answer to our IKE_AUTH, under keys that were made with the host that answered before."""
    if not rest:
        return
    bench = half_open(ExchangeType.IKE_AUTH)
    (sa,) = sas_of(bench.b)
    header = _header(sa, ExchangeType.IKE_AUTH, 1, response=True)
    _inject_alone(bench, _from_b(_seal(sa, header, rest[0], rest[1:], fragment=False)))


def _follow_up(rest: bytes) -> None:
    """IKE_FOLLOWUP_KE of an authenticated peer: the request, or the answer to ours."""
    if len(rest) < 2:
        return
    bench = before_follow_up()
    (asking,), (asked,) = sas_of(bench.a), sas_of(bench.b)
    kind = ExchangeType.IKE_FOLLOWUP_KE
    if rest[0] % 2:
        header = _header(asked, kind, asking._next_id - 1, response=True)
        octets = _from_b(_seal(asked, header, rest[1], rest[2:], fragment=False))
    else:
        header = _header(asking, kind, asked._answers.expected, response=False)
        octets = _from_a(_seal(asking, header, rest[1], rest[2:], fragment=False))
    _inject_alone(bench, octets)
    assert not asked.expected or len(asked.expected) == 1


def _inject_alone(bench: Bench, datagram: Datagram) -> None:
    sent = len(bench.wire)
    bench.inject(datagram)
    bench.run(0.05)
    assert len(bench.wire) - sent <= MOST_DATAGRAMS
    bench.run(70)


_ALONE = {
    STRANGER: _stranger,
    INIT_ANSWER: _init_answer,
    AUTH_ANSWER: _auth_answer,
    FOLLOW_UP: _follow_up,
}
"""Inputs that have two ends of their own."""


def asked_init() -> Bench:
    """Two ends; A has asked, and nothing that is sent arrives."""
    bench = Bench()
    bench.fate = lambda datagram: []
    bench.a.endpoint.connect('b', bench.now)
    bench.collect()
    return bench


def before_follow_up() -> Bench:
    """Two ends with an IKE SA; the first IKE_FOLLOWUP_KE request for an RP SA is lost."""
    policy = POLICIES['hybrid']
    bench = Bench(
        a=replace(peer_a(), policy=policy),
        b=replace(peer_b(), policy=policy),
        limits=Limits(fragment_ipv4=8192),
    )
    bench.connect()
    bench.fate = lambda d: (
        [] if is_kind(d, ExchangeType.IKE_FOLLOWUP_KE, response=False) else [LATENCY]
    )
    bench.a.endpoint.request('b', rp_request(1), bench.now)
    bench.run(0.1)
    return bench


def half_open(exchange: ExchangeType) -> Bench:
    """Two ends after IKE_SA_INIT; the request of `exchange`, which comes next, is lost."""
    policy = POLICIES['default' if exchange == ExchangeType.IKE_AUTH else 'hybrid']
    bench = Bench(
        a=replace(peer_a(), policy=policy),
        b=replace(peer_b(), policy=policy),
        limits=Limits(fragment_ipv4=8192),
    )
    bench.fate = lambda d: [] if is_kind(d, exchange, response=False) else [LATENCY]
    bench.a.endpoint.connect('b', bench.now)
    bench.run(0.1)
    return bench


def _from_a(data: bytes) -> Datagram:
    return Datagram(data, A_ADDRESS, 500, B_ADDRESS, 500)


def _from_b(data: bytes) -> Datagram:
    return Datagram(data, B_ADDRESS, 500, A_ADDRESS, 500)


def _header(sa: IkeSa, exchange: int, message_id: int, *, response: bool) -> Header:
    origin = sa.origin
    return Header(origin.spi_i, origin.spi_r, exchange, message_id, origin.initiator, response)


def _seal(sa: IkeSa, header: Header, first: int, content: bytes, *, fragment: bool) -> bytes:
    """Any content in one SK payload, or as the only fragment, with AES-GCM's empty padding."""
    channel = sa._channel
    cipher = cast(Cipher, channel._out)
    kind = PayloadType.SKF if fragment else PayloadType.SK
    fields = b'\x00\x01\x00\x01' if fragment else b''
    body = len(fields) + cipher.encryption.sealed_length(len(content) + 1)
    outer = header.encode(kind, HEADER_LENGTH + 4 + body)
    associated = outer + bytes([first, 0]) + (4 + body).to_bytes(2, 'big') + fields
    return associated + cipher.seal(channel._make_iv(), content + b'\0', associated)


def seeds() -> dict[str, bytes]:
    """The corpus: what two ends say to each other, from the outside and from the inside."""
    bench = Bench()
    a, b = bench.a.endpoint, bench.b.endpoint
    bench.negotiate(rp_request(1))
    found: dict[str, bytes] = {}
    inside = (
        cast(Cipher, sas_of(bench.a)[0]._channel._in),
        cast(Cipher, sas_of(bench.b)[0]._channel._in),
    )
    bench.negotiate(rp_request(2, rekey=1))
    a.delete('b', (1,), bench.now)
    b.check_liveness('a', bench.now)
    bench.settle()
    a.rekey_ike_sa('b', bench.now)
    bench.settle()
    for number, datagram in enumerate(bench.wire):
        header = Header.decode(datagram.data)
        name = f'{number:02}-{ExchangeType(header.exchange_type).name.lower()}'
        if header.exchange_type == ExchangeType.IKE_SA_INIT:
            if not header.response:
                body = datagram.data[HEADER_LENGTH:]
                found[f'{name}-payloads'] = bytes([INIT, datagram.data[16]]) + body
            found[f'{name}-datagram'] = bytes([DATAGRAM]) + datagram.data
            continue
        assert not is_fragment(datagram.data)
        cipher = inside[1] if datagram.local == A_ADDRESS else inside[0]
        try:
            message = open_message(datagram.data, cipher)
        except IntegrityFailure:
            continue  # sealed by the successor
        first, chain = encode_chain(message.payloads)
        exchange = next(i for i, e in enumerate(EXCHANGES) if e == header.exchange_type)
        if header.response:
            found[f'{name}-answer'] = bytes([ANSWER, first]) + chain
        else:
            found[f'{name}-request'] = bytes([REQUEST, exchange, first]) + chain
            found[f'{name}-fragment'] = bytes([FRAGMENT, exchange, first]) + chain
    for number, exchange in enumerate(HALF_OPEN):
        bench = half_open(exchange)
        request = next(d for d in bench.wire if is_kind(d, exchange, response=False))
        cipher = cast(Cipher, sas_of(bench.b)[0]._channel._in)
        first, chain = encode_chain(open_message(request.data, cipher).payloads)
        found[f'stranger-{exchange.name.lower()}'] = bytes([STRANGER, number, first]) + chain
    return found | _answers() | _follow_ups()


def _answers() -> dict[str, bytes]:
    """The answers to our IKE_SA_INIT and IKE_AUTH."""
    bench = Bench()
    bench.fate = lambda d: [] if is_kind(d, ExchangeType.IKE_AUTH, response=True) else [LATENCY]
    bench.a.endpoint.connect('b', bench.now)
    bench.run(0.1)
    init = next(d for d in bench.wire if is_kind(d, ExchangeType.IKE_SA_INIT, response=True))
    auth = next(d for d in bench.wire if is_kind(d, ExchangeType.IKE_AUTH, response=True))
    inner = open_message(auth.data, cast(Cipher, sas_of(bench.a)[0]._channel._in))
    first, chain = encode_chain(inner.payloads)
    payloads = bytes([init.data[16]]) + init.data[HEADER_LENGTH:]
    return {
        'initiator-ike_sa_init': bytes([INIT_ANSWER]) + payloads,
        'initiator-ike_auth': bytes([AUTH_ANSWER, first]) + chain,
    }


def _follow_ups() -> dict[str, bytes]:
    """IKE_FOLLOWUP_KE both ways: the network's randomness is the same each time, so are links."""
    bench = before_follow_up()
    (asking,), (asked,) = sas_of(bench.a), sas_of(bench.b)
    kind = ExchangeType.IKE_FOLLOWUP_KE
    request = next(d for d in bench.wire if is_kind(d, kind, response=False))
    first, chain = encode_chain(
        open_message(request.data, cast(Cipher, asked._channel._in)).payloads
    )
    bench.inject(request)
    answer = next(d for d in bench.wire if is_kind(d, kind, response=True))
    message = open_message(answer.data, cast(Cipher, asking._channel._in))
    answer_first, answer_chain = encode_chain(message.payloads)
    return {
        'follow_up-request': bytes([FOLLOW_UP, 0, first]) + chain,
        'follow_up-answer': bytes([FOLLOW_UP, 1, answer_first]) + answer_chain,
    }


def write_corpus() -> None:
    """Make the corpus anew."""
    for name, data in seeds().items():
        (CORPUS / name).write_bytes(data)


if __name__ == '__main__':
    if sys.argv[1:] == ['--seeds']:
        write_corpus()
    else:
        atheris.Setup(sys.argv, Target().run)
        atheris.Fuzz()
