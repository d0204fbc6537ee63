"""Two endpoints as a state machine of hypothesis: whatever users and the network do, in any order,
it ends in agreement or clean failure (RFC 7296, 2.1 to 2.8, 2.25).

test_network.py has one script and one list of fates; here the network changes while things happen,
both sides rekey, reauthenticate, delete and restart, and what must always hold is looked at after
every step. A longer run with new examples:

    pytest tests/ikev2/test_machine.py --hypothesis-profile long --timeout 0
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ikev2.constants import ExchangeType, KeyExchangeId, PayloadType
from ikev2.events import (
    Datagram,
    DeleteAnswered,
    Event,
    IkeSaDown,
    IkeSaUp,
    InitialContact,
    KeysDeleted,
    RpSaFailed,
    RpSaKeys,
    RpSaNegotiated,
    RpSaPrepared,
    RpSaRequested,
)
from ikev2.proposals.ike import IkePolicy
from ikev2.sa.transitions import State
from ikev2.wire.message import HEADER_LENGTH
from tests.ikev2.bench import (
    LATENCY,
    Bench,
    Node,
    deliver,
    header_of,
    peer_a,
    peer_b,
    rp_request,
    sas_of,
)

NAMES = st.sampled_from(['a', 'b'])
PEER = {'a': 'b', 'b': 'a'}
# What the network does from now on with each datagram, over and over.
WEATHER = st.lists(
    st.sampled_from(
        [
            (LATENCY,),
            (),
            (LATENCY, LATENCY),
            (LATENCY, 0.9),
            (0.04,),
            (0.7,),
            (3.0,),
            (LATENCY, 20.0),
        ]
    ),
    min_size=1,
    max_size=6,
)


@dataclass
class Router(Node):
    """An endpoint and a user that keeps MKTs as a gatekeeper does, but for TCP."""

    restarted: bool = False
    held: dict[int, tuple[RpSaKeys, float]] = field(default_factory=dict)
    """By our SendID: the MKT, and since when."""
    every: list[RpSaKeys] = field(default_factory=list)
    """All that it ever held."""
    asked: dict[int, int] = field(default_factory=dict)
    """SendIDs of the requests under way, by their numbers."""
    given_up: set[int] = field(default_factory=set)
    """SendIDs of exchanges under way when our side restarted or removed the peer: what comes of
    them at the other end nobody undoes, and ends for want of a connection."""
    overtaken: set[int] = field(default_factory=set)
    """RecvIDs whose DELETE, over another IKE SA, came before their request: such an MKT ends for
    want of a connection, too."""
    deleting: dict[int, int] = field(default_factory=dict)
    """SendIDs of the DELETEs under way, by their numbers."""
    undeleted: set[int] = field(default_factory=set)
    """Those that nobody answered."""
    ended: Counter[int] = field(default_factory=Counter)
    up: bool = False
    slow: bool = False
    """Thinks before it answers."""
    waiting: list[Event] = field(default_factory=list)

    @property
    def peer(self) -> str:
        return PEER[self.name]

    def ask(self, now: float, rekey: int | None = None) -> int:
        keyid = self.take_id()
        number = self.endpoint.request(self.peer, rp_request(keyid, rekey=rekey), now)
        self.asked[number] = keyid
        return number

    def take_id(self) -> int:
        keyid, self.next_keyid = self.next_keyid, self.next_keyid % 255 + 1
        return keyid

    def delete(self, send_id: int, now: float) -> None:
        self.held.pop(send_id, None)
        self.deleting[self.endpoint.delete(self.peer, (send_id,), now)] = send_id

    def collect(self, now: float) -> None:
        while (event := self.endpoint.next_event()) is not None:
            self.events.append(event)
            if self.slow and isinstance(event, RpSaRequested | RpSaPrepared | KeysDeleted):
                self.waiting.append(event)
            else:
                self.take(event, now)
        self.mkts = not self.restarted or bool(self.held)

    def think(self, now: float) -> None:
        """Do what was put off."""
        waiting, self.waiting = self.waiting, []
        for event in waiting:
            self.take(event, now)

    def take(self, event: Event, now: float) -> None:
        match event:
            case RpSaRequested(token=token) | RpSaPrepared(token=token):
                if token in self.endpoint._context.pending:
                    self.serve(event, now)
            case RpSaNegotiated(exchange=exchange, keys=keys):
                self.ended[exchange] += 1
                del self.asked[exchange]
                self.hold(keys, now)
            case RpSaFailed(exchange=exchange):
                self.ended[exchange] += 1
                del self.asked[exchange]
            case KeysDeleted(token=token, recv_ids=recv_ids):
                gone = [i for i, (keys, _) in self.held.items() if keys.recv_id in recv_ids]
                self.overtaken |= {*recv_ids} - {self.held[i][0].recv_id for i in gone}
                for send_id in gone:
                    del self.held[send_id]
                self.endpoint.answer_delete(token, gone, now)
            case DeleteAnswered(exchange=exchange, answered=answered):
                self.ended[exchange] += 1
                send_id = self.deleting.pop(exchange)
                if not answered:
                    self.undeleted.add(send_id)
            case InitialContact(before=before):
                self.held = {i: kept for i, kept in self.held.items() if kept[1] >= before}
                self.undeleted.clear()
            case IkeSaUp():
                self.up = True
                undeleted, self.undeleted = self.undeleted, set()
                for send_id in undeleted:
                    self.delete(send_id, now)
            case IkeSaDown():
                self.up = False

    def serve(self, event: RpSaRequested | RpSaPrepared, now: float) -> None:
        if isinstance(event, RpSaPrepared):
            self.hold(event.keys, now)
            self.endpoint.answer(event.token, now)
            return
        suite, options = event.offer.proposals[0]
        keys = self.endpoint.prepare(event.token, suite, options, self.take_id(), 1800, now)
        if keys is not None:
            self.hold(keys, now)
            self.endpoint.answer(event.token, now)

    def hold(self, keys: RpSaKeys, now: float) -> None:
        self.held[keys.send_id] = keys, now
        self.every.append(keys)


HYBRID = IkePolicy(additional=(KeyExchangeId.ML_KEM_768,), additional_required=True)


class TwoEnds(RuleBasedStateMachine):
    """Users A and B, and the weather."""

    @initialize(seed=st.integers(0, 2**16), hybrid=st.booleans())
    def boot(self, seed: int, hybrid: bool) -> None:
        policy = HYBRID if hybrid else IkePolicy()
        self.peers = {
            'a': replace(peer_b(), policy=policy),
            'b': replace(peer_a(), policy=policy),
        }
        self.bench = Bench(a=self.peers['b'], b=self.peers['a'], seed=seed, node=Router)
        self.former: dict[str, list[Router]] = {'a': [], 'b': []}
        for name in PEER:
            # INITIAL_CONTACT would hide what is left behind.
            self.router(name).mkts = True

    # --- users ---------------------------------------------------------------------------------

    @rule(name=NAMES)
    def connect(self, name: str) -> None:
        self.router(name).endpoint.connect(PEER[name], self.bench.now)

    @rule(name=NAMES)
    def ask(self, name: str) -> None:
        self.router(name).ask(self.bench.now)

    @rule(name=NAMES)
    def ask_for_a_successor(self, name: str) -> None:
        router = self.router(name)
        if router.held:
            router.ask(self.bench.now, rekey=max(router.held))

    @rule()
    def both_ask_for_a_successor(self) -> None:
        self.ask_for_a_successor('a')
        self.ask_for_a_successor('b')

    @rule(name=NAMES)
    def cancel(self, name: str) -> None:
        router = self.router(name)
        if router.asked:
            router.endpoint.cancel(router.peer, max(router.asked), self.bench.now)

    @rule(name=NAMES, seconds=st.sampled_from([0.0, 0.005, 0.015]))
    def ask_and_think_better_of_it(self, name: str, seconds: float) -> None:
        self.bench.run(5)
        self.ask(name)
        self.bench.run(seconds)
        self.cancel(name)

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        router = self.router(name)
        if router.held:
            router.delete(min(router.held), self.bench.now)

    @rule(name=NAMES, slow=st.booleans())
    def take_time(self, name: str, slow: bool) -> None:
        """Or do what was put off."""
        router = self.router(name)
        router.slow = slow
        if not slow:
            router.think(self.bench.now)
            self.bench.collect()

    @rule(name=NAMES)
    def rekey(self, name: str) -> None:
        self.router(name).endpoint.rekey_ike_sa(PEER[name], self.bench.now)

    @rule()
    def both_rekey(self) -> None:
        self.bench.run(5)
        self.rekey('a')
        self.rekey('b')

    @rule(name=NAMES)
    def reauthenticate(self, name: str) -> None:
        self.router(name).endpoint.reauthenticate(PEER[name], self.bench.now)

    @rule(name=NAMES)
    def check(self, name: str) -> None:
        self.router(name).endpoint.check_liveness(PEER[name], self.bench.now)

    @rule(name=NAMES)
    def lose(self, name: str) -> None:
        self.router(name).endpoint.replace_ike_sa(PEER[name], self.bench.now)

    @rule(name=NAMES)
    def reconfigure(self, name: str) -> None:
        """Delete all IKE SAs and requests, and begin with the same peer again."""
        router = self.router(name)
        peer = self.peers[name]
        self.peers[name] = replace(peer, ike_lifetime=peer.ike_lifetime + 1)
        router.given_up |= {*router.asked.values(), *router.deleting.values()}
        router.given_up |= {*router.endpoint._associations[PEER[name]].undoing}
        router.endpoint.set_peer(self.peers[name], self.bench.now)

    @rule(name=NAMES)
    def restart(self, name: str) -> None:
        """From nothing, and without a word: kill -9."""
        bench, former = self.bench, self.router(name)
        bench.collect()
        self.former[name].append(former)
        reached = {keys.lowest_nonce for keys in self.router(PEER[name]).every}
        router = bench.boot(name)
        assert isinstance(router, Router)
        router.restarted, router.next_keyid = True, former.next_keyid
        answered = {keys.send_id for keys in former.every if keys.lowest_nonce not in reached}
        undoing = former.endpoint._associations[former.peer].undoing
        router.given_up = {*former.given_up, *former.asked.values(), *answered, *undoing}
        router.endpoint.set_peer(self.peers[name], bench.now)
        router.endpoint.connect(PEER[name], bench.now)

    # --- the network ---------------------------------------------------------------------------

    @rule(pattern=WEATHER)
    def weather(self, pattern: list[tuple[float, ...]]) -> None:
        count = 0

        def fate(datagram: Datagram) -> list[float]:
            nonlocal count
            count += 1
            return list(pattern[count % len(pattern)])

        self.bench.fate = fate

    @rule(position=st.integers(0, 10_000))
    def replay(self, position: int) -> None:
        if self.bench.wire:
            self.bench.inject(self.bench.wire[position % len(self.bench.wire)])

    @rule(seconds=st.sampled_from([0.005, 0.02, 0.3, 4.0, 35.0]))
    def wait(self, seconds: float) -> None:
        self.bench.run(seconds)

    # --- always --------------------------------------------------------------------------------

    @invariant()
    def nothing_grows_without_end(self) -> None:
        for router in self.routers():
            context = router.endpoint._context
            assert sum(map(len, context.sas.values())) < 200
            assert len(context.attempts) <= 1
            assert context.half_open == sum(sa.state == State.HALF_OPEN for sa in sas_of(router))

    @invariant()
    def nothing_ends_twice(self) -> None:
        for router in self.routers():
            assert max(router.ended.values(), default=0) <= 1

    @invariant()
    def no_two_keys_of_one_exchange(self) -> None:
        """What both have of an exchange is the same, mirrored."""
        known: dict[bytes, tuple[str, RpSaKeys]] = {}
        for router in self.routers(ever=True):
            for keys in router.every:
                name, other = known.setdefault(keys.lowest_nonce, (router.name, keys))
                if name != router.name:
                    assert mirrored(keys) == (other.send_id, other.recv_id, *secret(other))

    # --- and in the end ------------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, 'bench'):
            return
        bench = self.bench
        for name in PEER:
            self.take_time(name, slow=False)
        bench.run(120)
        bench.fate = deliver
        for _ in range(3):
            # The other end may have lost an IKE SA, or never had it: a request over it would fail,
            # cleanly. After a storm one is found after the other.
            for name in PEER:
                self.check(name)
            bench.run(100)
        last = {}
        for name in PEER:
            last[name] = self.router(name).ask(bench.now)
            bench.run(70)
        bench.run(100)
        for router in self.routers():
            assert last[router.name] in [e.exchange for e in router.all(RpSaNegotiated)]
            everything_has_ended(router)
        a, b = self.routers()
        assert [sa.origin.spis for sa in sas_of(a)] == [sa.origin.spis for sa in sas_of(b)]
        for mine, theirs in ((a, b), (b, a)):
            there = {mirrored(keys) for keys, _ in theirs.held.values()}
            for keys, _ in mine.held.values():
                one = keys.send_id, keys.recv_id, *secret(keys)
                assert one in there or keys.recv_id in theirs.given_up | mine.overtaken
        one_answer_to_one_request(bench)
        no_iv_twice(bench)

    # --- who there is --------------------------------------------------------------------------

    def router(self, name: str) -> Router:
        router = self.bench.nodes[name]
        assert isinstance(router, Router)
        return router

    def routers(self, *, ever: bool = False) -> list[Router]:
        if not hasattr(self, 'bench'):
            return []
        former = [router for name in PEER for router in self.former[name]] if ever else []
        return [*former, self.router('a'), self.router('b')]


def secret(keys: RpSaKeys) -> tuple[str, bytes]:
    return keys.suite, keys.master_key.reveal()


def mirrored(keys: RpSaKeys) -> tuple[int, int, str, bytes]:
    """As the other end holds it."""
    return keys.recv_id, keys.send_id, *secret(keys)


def everything_has_ended(router: Router) -> None:
    """One IKE SA is left, and nothing that waits."""
    context = router.endpoint._context
    association = router.endpoint._associations[router.peer]
    assert [sa.state for sa in sas_of(router)] == [State.ESTABLISHED]
    assert router.up
    assert not router.asked
    assert not router.deleting
    assert not router.undeleted
    assert not association.jobs
    assert not association.undoing
    assert not association.in_flight()
    assert not context.attempts
    assert not context.pending
    assert context.half_open == 0
    assert len(context.sas) == 1
    assert len(context.initials) <= 1


def one_answer_to_one_request(bench: Bench) -> None:
    """Octet by octet (RFC 7296, 2.1)."""
    answers: dict[object, bytes] = {}
    for datagram in bench.wire:
        header = header_of(datagram)
        protected = datagram.data[16] == PayloadType.SK
        if header.response and (protected or header.exchange_type == ExchangeType.IKE_SA_INIT):
            key = replace(header, initiator_spi=header.initiator_spi)
            if key.responder_spi != bytes(8):
                assert answers.setdefault(key, datagram.data) == datagram.data


def no_iv_twice(bench: Bench) -> None:
    """Two messages under one key never have the same IV, which would give both away."""
    sealed: dict[object, bytes] = {}
    for datagram in bench.wire:
        data, header = datagram.data, header_of(datagram)
        if data[16] in (PayloadType.SK, PayloadType.SKF):
            start = HEADER_LENGTH + (4 if data[16] == PayloadType.SK else 8)
            early = header.exchange_type == ExchangeType.IKE_INTERMEDIATE  # under other keys
            spis = header.initiator_spi, header.responder_spi
            key = spis, header.initiator, early, data[start : start + 8]
            assert sealed.setdefault(key, data) == data


TestTwoEnds = TwoEnds.TestCase
# The same examples in every ordinary run: new ones are looked for where somebody waits for them.
LONG = settings().max_examples > 1000
TestTwoEnds.settings = settings(
    max_examples=settings().max_examples // 2,
    stateful_step_count=40 if LONG else 25,
    derandomize=not LONG,
    deadline=None,
)
