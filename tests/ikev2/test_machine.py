"""Two endpoints as a state machine of hypothesis: whatever users and the network do, in any order,
it ends in agreement or clean failure (RFC 7296, 2.1 to 2.8, 2.25).

test_network.py has one script and one list of fates; here the network changes while things happen,
both sides rekey, reauthenticate, delete and restart, and what must always hold is looked at after
every step. A longer run with new examples:

    pytest tests/ikev2/test_machine.py --hypothesis-profile long --timeout 0
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ikev2.constants import ExchangeType, KeyExchangeId, PayloadType
from ikev2.crypto.cipher import AES_256_CBC_HMAC_SHA2_256_128
from ikev2.events import Datagram, RpSaKeys, RpSaNegotiated
from ikev2.proposals.ike import IkePolicy
from ikev2.sa.transitions import State
from ikev2.wire.message import HEADER_LENGTH
from tests.ikev2.bench import (
    LATENCY,
    Bench,
    deliver,
    header_of,
    peer_a,
    peer_b,
    sas_of,
)
from tests.ikev2.router import PEER, Router, mirrored, secret

NAMES = st.sampled_from(['a', 'b'])
SLOWEST = 20.0
"""Seconds that a datagram is on its way at most."""
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
            (LATENCY, SLOWEST),
        ]
    ),
    min_size=1,
    max_size=6,
)


HYBRID = IkePolicy(additional=(KeyExchangeId.ML_KEM_768,), additional_required=True)
HYBRID_CBC = replace(HYBRID, encryptions=(AES_256_CBC_HMAC_SHA2_256_128,))
POLICIES = st.sampled_from([IkePolicy(), HYBRID, HYBRID_CBC])


class TwoEnds(RuleBasedStateMachine):
    """Users A and B, and the weather."""

    @initialize(seed=st.integers(0, 2**16), policy=POLICIES)
    def boot(self, seed: int, policy: IkePolicy) -> None:
        self.peers = {
            'a': replace(peer_b(), policy=policy),
            'b': replace(peer_a(), policy=policy),
        }
        self.bench = Bench(a=self.peers['b'], b=self.peers['a'], seed=seed, node=Router)
        self.former: dict[str, list[Router]] = {'a': [], 'b': []}
        self.restarts: dict[str, list[float]] = {'a': [], 'b': []}
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
        left = router.endpoint.remove_peer(PEER[name], self.bench.now)
        router.endpoint.set_peer(self.peers[name], self.bench.now, left=left)

    @rule(name=NAMES)
    def restart(self, name: str) -> None:
        """From nothing, and without a word: kill -9."""
        bench, former = self.bench, self.router(name)
        bench.collect()
        self.former[name].append(former)
        self.restarts[name].append(bench.now)
        router = bench.boot(name)
        assert isinstance(router, Router)
        router.restarted, router.next_keyid = True, former.next_keyid
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
        """Check that what both ends have of an exchange is the same, mirrored."""
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
                self.router(name).delete_again(bench.now)
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
        for router in self.routers():
            for send_id in self.only_at(router):
                keys = router.held[send_id]
                assert keys.recv_id in router.overtaken or self.of_a_dead_self(router, keys)
        self.wait_for_connections()
        assert not self.only_at(a) + self.only_at(b)
        for router in self.routers():
            everything_has_ended(router)
        one_answer_to_one_request(bench)
        no_iv_twice(bench)

    def wait_for_connections(self) -> None:
        """Delete the keys that only one end has, which are of no use for a connection (wire
        profile: MKT without a connection)."""
        self.bench.run(180)
        for router in self.routers():
            for send_id in self.only_at(router):
                router.delete(send_id, self.bench.now)
        self.bench.run(10)

    def of_a_dead_self(self, router: Router, keys: RpSaKeys) -> bool:
        """The peer died with its proof of identity on its way, which came after the IKE_SA_INIT of
        its next self: as that of a living one does that begins in the same moment (decision 13)."""
        present = self.router(router.peer)
        return (keys.send_id, keys.recv_id, *secret(keys)) not in map(
            mirrored, present.every
        ) and any(
            died <= keys.authenticated <= died + SLOWEST + LATENCY
            for died in self.restarts[router.peer]
        )

    # --- who there is --------------------------------------------------------------------------

    def only_at(self, router: Router) -> list[int]:
        return router.only_here(self.router(router.peer))

    def router(self, name: str) -> Router:
        router = self.bench.nodes[name]
        assert isinstance(router, Router)
        return router

    def routers(self, *, ever: bool = False) -> list[Router]:
        if not hasattr(self, 'bench'):
            return []
        former = [router for name in PEER for router in self.former[name]] if ever else []
        return [*former, self.router('a'), self.router('b')]


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
# The same examples in every ordinary run: new ones are looked for in runs that wait for them.
LONG = settings().max_examples > 1000
TestTwoEnds.settings = settings(
    max_examples=settings().max_examples // 2,
    stateful_step_count=40 if LONG else 25,
    derandomize=not LONG,
    deadline=None,
)
