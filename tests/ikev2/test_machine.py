"""Two endpoints as a state machine of hypothesis: whatever users and the network do, in any order,
it ends in agreement or clean failure (RFC 7296, 2.1 to 2.8, 2.25).

test_network.py has one script and one list of fates; here the network changes while things happen,
both sides rekey, reauthenticate, delete and restart, and what must always hold is looked at after
every step.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ikev2.constants import ExchangeType
from ikev2.events import (
    Datagram,
    DeleteAnswered,
    IkeSaDown,
    IkeSaUp,
    KeysDeleted,
    RpSaFailed,
    RpSaKeys,
    RpSaNegotiated,
)
from tests.ikev2.bench import LATENCY, Bench, Node, deliver, header_of, rp_request, sas_of

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


class TwoEnds(RuleBasedStateMachine):
    """Users A and B, and the weather."""

    @initialize(seed=st.integers(0, 2**16))
    def boot(self, seed: int) -> None:
        self.bench = Bench(seed=seed)
        # INITIAL_CONTACT would hide what is left behind.
        self.bench.a.mkts = self.bench.b.mkts = True
        self.asked: dict[str, list[int]] = {'a': [], 'b': []}
        self.deletes: dict[str, list[int]] = {'a': [], 'b': []}
        self.keyid = 0

    # --- users ---------------------------------------------------------------------------------

    @rule(name=NAMES)
    def connect(self, name: str) -> None:
        self.node(name).endpoint.connect(PEER[name], self.bench.now)

    @rule(name=NAMES)
    def ask(self, name: str) -> None:
        self.keyid = self.keyid % 255 + 1
        request = rp_request(self.keyid)
        number = self.node(name).endpoint.request(PEER[name], request, self.bench.now)
        self.asked[name].append(number)

    @rule(name=NAMES)
    def cancel(self, name: str) -> None:
        if self.asked[name]:
            self.node(name).endpoint.cancel(self.asked[name][-1], self.bench.now)

    @rule(name=NAMES, seconds=st.sampled_from([0.0, 0.005, 0.015]))
    def ask_and_think_better_of_it(self, name: str, seconds: float) -> None:
        self.bench.run(5)
        self.ask(name)
        self.bench.run(seconds)
        self.cancel(name)

    @rule(name=NAMES, keyid=st.integers(1, 255))
    def delete(self, name: str, keyid: int) -> None:
        number = self.node(name).endpoint.delete(PEER[name], (keyid,), self.bench.now)
        self.deletes[name].append(number)

    @rule(name=NAMES)
    def rekey(self, name: str) -> None:
        self.node(name).endpoint.rekey_ike_sa(PEER[name], self.bench.now)

    @rule(name=NAMES)
    def reauthenticate(self, name: str) -> None:
        self.node(name).endpoint.reauthenticate(PEER[name], self.bench.now)

    @rule(name=NAMES)
    def check(self, name: str) -> None:
        self.node(name).endpoint.check_liveness(PEER[name], self.bench.now)

    @rule(name=NAMES)
    def lose(self, name: str) -> None:
        self.node(name).endpoint.replace_ike_sa(PEER[name], self.bench.now)

    @rule(name=NAMES)
    def reconfigure(self, name: str) -> None:
        """Delete all IKE SAs and requests, and begin with the same peer again."""
        endpoint = self.node(name).endpoint
        peer = endpoint._associations[PEER[name]].peer
        endpoint.set_peer(replace(peer, ike_lifetime=peer.ike_lifetime + 1), self.bench.now)

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
        if not hasattr(self, 'bench'):
            return
        for node in (self.bench.a, self.bench.b):
            assert len(node.endpoint._context.sas) < 200
            assert len(node.endpoint._context.attempts) <= 1
            half_open = sum(sa.state == 'half open' for sa in sas_of(node))
            assert node.endpoint._context.half_open == half_open

    @invariant()
    def nothing_ends_twice(self) -> None:
        if not hasattr(self, 'bench'):
            return
        for name in PEER:
            assert max(self.ends(name).values(), default=0) <= 1

    @invariant()
    def keys_that_both_have_are_the_same(self) -> None:
        if not hasattr(self, 'bench'):
            return
        for mine, theirs in ((self.bench.a, self.bench.b), (self.bench.b, self.bench.a)):
            accepted = {(k.recv_id, k.lowest_nonce): k for k in theirs.accepted}
            for event in mine.all(RpSaNegotiated):
                other = accepted[event.keys.send_id, event.keys.lowest_nonce]
                assert agree(event.keys, other)

    # --- and in the end ------------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, 'bench'):
            return
        bench = self.bench
        bench.run(120)
        bench.fate = deliver
        for name in ('a', 'b'):
            self.ask(name)
            bench.run(70)
        bench.run(100)
        for name, node in (('a', bench.a), ('b', bench.b)):
            deleted = Counter(e.exchange for e in node.all(DeleteAnswered))
            assert max(deleted.values(), default=0) <= 1
            assert self.asked[name][-1] in [e.exchange for e in node.all(RpSaNegotiated)]
            assert not node.endpoint._context.attempts
            assert node.endpoint._context.half_open == 0
            assert not node.endpoint._associations[PEER[name]].jobs
            assert up_or_down(node)
        a, b = ([sa.origin.spis for sa in sas_of(n) if sa.finished] for n in (bench.a, bench.b))
        assert len(a) == 1
        assert a == b
        self.no_answer_differs()
        undone(bench.a, bench.b)
        undone(bench.b, bench.a)

    def no_answer_differs(self) -> None:
        """One request has one answer, octet by octet (RFC 7296, 2.1)."""
        answers: dict[object, bytes] = {}
        for datagram in self.bench.wire:
            header = header_of(datagram)
            if header.response and header.exchange_type != ExchangeType.IKE_SA_INIT:
                if datagram.data[16] == 41:  # INVALID_IKE_SPI, without protection
                    continue
                key = (
                    header.initiator_spi,
                    header.responder_spi,
                    header.initiator,
                    header.message_id,
                )
                assert answers.setdefault(key, datagram.data) == datagram.data

    def node(self, name: str) -> Node:
        return self.bench.nodes[name]

    def ends(self, name: str) -> Counter[int]:
        node = self.node(name)
        ends = Counter(e.exchange for e in node.all(RpSaNegotiated))
        ends.update(e.exchange for e in node.all(RpSaFailed))
        return ends


def agree(mine: RpSaKeys, theirs: RpSaKeys) -> bool:
    """Mirrored ids and the same key."""
    same = mine.master_key == theirs.master_key and mine.suite == theirs.suite
    return same and (mine.send_id, mine.recv_id) == (theirs.recv_id, theirs.send_id)


def undone(mine: Node, theirs: Node) -> None:
    """An MKT that only the responder has was deleted, unless the requester gave up the peer."""
    ours = {e.keys.lowest_nonce for e in mine.all(RpSaNegotiated)}
    deleted = {keyid for e in theirs.all(KeysDeleted) for keyid in e.recv_ids}
    stopped = any(e.cause == 'the endpoint was stopped' for e in mine.all(RpSaFailed))
    left = [k for k in theirs.accepted if k.lowest_nonce not in ours and k.recv_id not in deleted]
    assert not left or stopped


def up_or_down(node: Node) -> bool:
    """Since the last IKE SA came up none was told to be the last one to go."""
    story = [e for e in node.events if isinstance(e, IkeSaUp | IkeSaDown)]
    return isinstance(story[-1], IkeSaUp)


TestTwoEnds = TwoEnds.TestCase
TestTwoEnds.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)
