"""Hostile conversations that end well. Each is short here: `make soak-ike` makes them long.

An authentic peer whose messages are changed before they are sealed; one that does what it likes
beside an honest one; a network that loses what it knows by its exchange type.
"""

from __future__ import annotations

import os
import random as pseudo
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address

import pytest

from ikev2.authentication.identity import Identity
from ikev2.constants import ExchangeType, PayloadType
from ikev2.endpoint import Endpoint
from ikev2.events import Datagram, Datagrams, IkeSaUp, IPAddress, RpSaNegotiated
from ikev2.proposals.policies import POLICIES
from ikev2.sa.channel import Channel
from ikev2.sa.transitions import State
from ikev2.wire.message import Header, Message
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import NotifyPayload, UnknownPayload
from tests.ikev2.bench import (
    B_ADDRESS,
    B_ID,
    LATENCY,
    Anything,
    Bench,
    Node,
    deliver,
    header_of,
    is_kind,
    peer_a,
    peer_b,
    psk,
    rp_request,
    sas_of,
    turned,
)

SOAK = int(os.environ.get('SOAK', '1'))
KINDS = (
    ExchangeType.IKE_SA_INIT,
    ExchangeType.IKE_INTERMEDIATE,
    ExchangeType.IKE_AUTH,
    ExchangeType.CREATE_CHILD_SA,
    ExchangeType.IKE_FOLLOWUP_KE,
    ExchangeType.INFORMATIONAL,
)
SEALED = KINDS[1:]


def two_ends(policy: str, seed: int) -> Bench:
    chosen = POLICIES[policy]
    peers = replace(peer_a(), policy=chosen), replace(peer_b(), policy=chosen)
    return Bench(a=peers[0], b=peers[1], seed=seed)


def everything(bench: Bench) -> None:
    """Each kind of exchange, from either side, whether it succeeds or not."""
    bench.a.endpoint.request('b', rp_request(1), bench.now)
    bench.run(5)
    bench.a.endpoint.request('b', rp_request(2, rekey=1), bench.now)
    bench.run(5)
    bench.a.endpoint.delete('b', (1,), bench.now)
    bench.b.endpoint.check_liveness('a', bench.now)
    bench.run(5)
    bench.b.endpoint.rekey_ike_sa('a', bench.now)
    bench.run(5)
    bench.a.endpoint.reauthenticate('b', bench.now)
    bench.run(5)


def ends_well(bench: Bench) -> None:
    """Once the network is honest again the two ends agree, and keep nothing of what was."""
    bench.fate = deliver
    bench.run(120)
    before = len(bench.a.all(RpSaNegotiated))
    bench.a.endpoint.replace_ike_sa('b', bench.now)
    bench.run(60)
    bench.negotiate(rp_request(9))
    bench.run(90)
    assert len(bench.a.all(RpSaNegotiated)) == before + 1
    spis = [
        {sa.origin.spis for sa in sas_of(node) if sa.state == State.ESTABLISHED}
        for node in (bench.a, bench.b)
    ]
    assert spis[0] == spis[1]
    for node in (bench.a, bench.b):
        context = node.endpoint._context
        assert not context.attempts
        assert not context.half_open
        assert len(sas_of(node)) <= 2
        assert not any(sa.expected for sa in sas_of(node))


# --- authentic messages that are changed ---------------------------------------------------------


def changed(payloads: Sequence[Payload], random: pseudo.Random) -> list[Payload]:
    found = list(payloads)
    place = random.randrange(len(found) + 1)
    one = found[place] if place < len(found) else NotifyPayload(random.randrange(65536))
    match random.randrange(6):
        case 0 if place < len(found):
            del found[place]
        case 1:
            found.insert(place, one)
        case 2:
            random.shuffle(found)
        case 3:
            body = bytearray(one.encode(0)[4:])
            for _ in range(random.randrange(1, 4)):
                if body:
                    body[random.randrange(len(body))] = random.randrange(256)
            found[place : place + 1] = [UnknownPayload(one.payload_type, bytes(body), False)]
        case 4:
            body = bytearray(one.encode(0)[4:])[: random.randrange(40)]
            found[place : place + 1] = [UnknownPayload(one.payload_type, bytes(body), False)]
        case _:
            kind = random.choice(list(PayloadType)[1:])
            if kind not in (PayloadType.SK, PayloadType.SKF):
                found.insert(place, UnknownPayload(kind, random.randbytes(20), True))
    return found


@contextmanager
def changing(kind: ExchangeType, response: bool, seed: int) -> Iterator[list[int]]:
    """Change one message in two of a kind, whichever end sends it, before it is sealed."""
    random = pseudo.Random(seed)
    original = Channel.seal
    count: list[int] = []

    def seal(
        self: Channel, header: Header, payloads: Sequence[Payload], to: IPAddress
    ) -> Datagrams:
        wanted = header.exchange_type == kind and header.response == response
        if wanted and random.random() < 0.5:
            count.append(1)
            payloads = changed(payloads, random)
        return original(self, header, payloads, to)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Channel, 'seal', seal)
        yield count


@pytest.mark.parametrize('response', [False, True], ids=['request', 'answer'])
@pytest.mark.parametrize('kind', SEALED, ids=lambda kind: kind.name)
def test_ends_agree_again_when_authentic_messages_were_changed(
    kind: ExchangeType, response: bool
) -> None:
    tried = 0
    for seed in range(5 * SOAK):
        bench = two_ends('hybrid-optional', seed)
        with changing(kind, response, seed) as count:
            everything(bench)
        tried += len(count)
        ends_well(bench)
    assert tried


@pytest.mark.parametrize('response', [False, True], ids=['request', 'answer'])
def test_ends_agree_again_when_initial_messages_were_changed(response: bool) -> None:
    """Nothing seals an IKE_SA_INIT: an attacker between the two changes one message in two."""
    tried = 0
    for seed in range(5 * SOAK):
        bench, random = two_ends('hybrid-optional', seed), pseudo.Random(seed)
        count: list[int] = []

        def fate(
            datagram: Datagram,
            bench: Bench = bench,
            random: pseudo.Random = random,
            count: list[int] = count,
        ) -> list[float]:
            if not is_kind(datagram, ExchangeType.IKE_SA_INIT, response=response):
                return [LATENCY]
            if random.random() < 0.5:
                return [LATENCY]
            count.append(1)
            message = Message.decode(datagram.data)
            payloads = tuple(changed(message.payloads, random))
            forged = replace(message, payloads=payloads).encode()
            bench.post(replace(datagram, data=forged), LATENCY)
            return []

        bench.fate = fate
        everything(bench)
        tried += len(count)
        ends_well(bench)
    assert tried


# --- a network that knows what it loses ----------------------------------------------------------


@pytest.mark.parametrize('response', [False, True], ids=['request', 'answer'])
@pytest.mark.parametrize('kind', KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize('lost', [1, 3, 1000])
def test_ends_agree_again_when_one_kind_was_lost(
    kind: ExchangeType, response: bool, lost: int
) -> None:
    for seed in range(SOAK):
        bench = two_ends('hybrid', seed)
        left = [lost]

        def fate(datagram: Datagram, left: list[int] = left) -> list[float]:
            if is_kind(datagram, kind, response=response) and left[0] > 0:
                left[0] -= 1
                return []
            return [LATENCY]

        bench.fate = fate
        everything(bench)
        assert left[0] < lost
        if lost < 4:
            bench.run(10)
            assert bench.a.all(IkeSaUp)
            assert bench.a.all(RpSaNegotiated)
        ends_well(bench)


# --- a hostile peer beside an honest one ---------------------------------------------------------

C_ADDRESS = ip_address('10.0.0.3')
C_ID = Identity.parse('fqdn', 'c.example')


class HostilePeer:
    """C, which B knows: it has credentials and keeps to no rule."""

    def __init__(self, bench: Bench, seed: int) -> None:
        self._bench = bench
        self._random = pseudo.Random(seed)
        secret = psk('what B shares with C alone, long enough')
        seen_by_b = replace(
            peer_a(secret, secret), name='c', remote_id=C_ID, addresses=((B_ADDRESS, C_ADDRESS),)
        )
        seen_by_c = replace(
            peer_b(secret, secret),
            local_id=C_ID,
            remote_id=B_ID,
            addresses=((C_ADDRESS, B_ADDRESS),),
        )
        bench.b.endpoint.set_peer(seen_by_b, bench.now)
        self.node = Node(
            'c', Endpoint(random=self._random.randbytes, has_mkts=bool, cpu=lambda: 0.0)
        )
        self.node.endpoint.set_peer(seen_by_c, bench.now)
        self._kept: list[Datagram] = []
        self._carry = bench.fate
        bench.fate = self._fate

    def _fate(self, datagram: Datagram) -> list[float]:
        if datagram.remote != C_ADDRESS:
            return self._carry(datagram)
        self.node.endpoint.receive_datagram(turned(datagram), self._bench.now)
        self.pump()
        return []

    def pump(self) -> None:
        self.node.collect(self._bench.now)
        for datagram in self.node.endpoint.datagrams_to_send():
            self._kept.append(datagram)
            self._bench.post(datagram, LATENCY)

    def act(self) -> None:
        """Something that an honest peer wouldn't do."""
        now, random = self._bench.now, self._random
        self.node.endpoint.handle_timer(now)
        mine = [sa for sa in sas_of(self.node) if sa.finished]
        match random.randrange(5):
            case 0:
                self.node.endpoint.replace_ike_sa('b', now)
            case 1 if self._kept:
                for _ in range(20):
                    self._bench.post(random.choice(self._kept), LATENCY)
            case 2 if self._kept:
                old = random.choice(self._kept)
                octets = bytearray(old.data)
                octets[random.randrange(len(octets))] ^= 1 << random.randrange(8)
                self._bench.post(replace(old, data=bytes(octets)), LATENCY)
            case _ if mine and not mine[0].busy:
                kind = random.choice(SEALED)
                payloads: list[Payload] = [
                    UnknownPayload(
                        random.choice(USUAL), random.randbytes(random.randrange(60)), False
                    )
                    for _ in range(random.randrange(6))
                ]
                mine[0].queue(Anything(kind, payloads), now)
            case _:
                self.node.endpoint.connect('b', now)
        self.pump()


USUAL = [kind for kind in PayloadType if kind not in (PayloadType.SK, PayloadType.SKF, 0)]


def test_honest_peer_is_served_beside_a_hostile_one() -> None:
    bench = Bench()
    bench.connect()
    bench.b.next_keyid = 0x11
    hostile = HostilePeer(bench, 3)
    for turn in range(150 * SOAK):
        hostile.act()
        bench.run(0.05)
        if turn % 25 == 0:
            before = len(bench.a.all(RpSaNegotiated))
            bench.negotiate(rp_request(turn // 25 % 200 + 1))
            assert len(bench.a.all(RpSaNegotiated)) == before + 1
    assert hostile.node.all(IkeSaUp)
    assert len(bench.a.all(IkeSaUp)) == 1, 'the IKE SA with the honest peer was lost'
    context = bench.b.endpoint._context
    assert sum(map(len, context.sas.values())) < 400
    assert len(context.pending) < 100
    sent = sum(d.remote == C_ADDRESS for d in bench.sent_by(bench.b))
    assert sent < 40 * 150 * SOAK
    assert {header_of(d).initiator_spi for d in bench.sent_by(bench.b)}
