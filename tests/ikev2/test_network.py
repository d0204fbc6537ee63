"""Any pattern of loss, duplication, delay and reordering ends in agreement or clean failure."""

from __future__ import annotations

from collections import Counter

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ikev2.events import (
    Datagram,
    DeleteAnswered,
    KeysDeleted,
    RpSaFailed,
    RpSaKeys,
    RpSaNegotiated,
)
from tests.ikev2.bench import LATENCY, Bench, Node, deliver, rp_request, sas_of

# What may happen to a datagram: lost, late, doubled, overtaken, arriving long after.
FATES = st.sampled_from(
    [
        [LATENCY],
        [],
        [LATENCY, LATENCY],
        [LATENCY, 0.7],
        [0.03],
        [0.6],
        [3.0],
        [LATENCY, 20.0],
        [45.0],
    ]
)
# What the two users do meanwhile.
ACTIONS = st.sampled_from(
    ['a asks', 'b asks', 'a deletes', 'b rekeys IKE', 'a rekeys IKE', 'a replaces', 'a looks']
)


class Users:
    """Two users that ask for this and that and remember what they asked for."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.asked: dict[str, list[int]] = {'a': [], 'b': []}
        self.deletes: list[int] = []
        self._keyid = 0

    def act(self, action: str) -> None:
        """One action by its name in ACTIONS."""
        bench = self.bench
        a, b = bench.a.endpoint, bench.b.endpoint
        if action == 'a asks':
            self.asked['a'].append(a.request('b', rp_request(self._new()), bench.now))
        elif action == 'b asks':
            self.asked['b'].append(b.request('a', rp_request(self._new()), bench.now))
        elif action == 'a deletes':
            self.deletes.append(a.delete('b', (250,), bench.now))
        elif action == 'b rekeys IKE':
            b.rekey_ike_sa('a', bench.now)
        elif action == 'a rekeys IKE':
            a.rekey_ike_sa('b', bench.now)
        elif action == 'a replaces':
            a.replace_ike_sa('b', bench.now)
        elif action == 'a looks':
            a.check_liveness('b', bench.now)

    def _new(self) -> int:
        self._keyid += 1
        return self._keyid


@settings(max_examples=150)
@given(
    fates=st.lists(FATES, max_size=60),
    actions=st.lists(st.tuples(ACTIONS, st.sampled_from([0.0, 0.02, 0.5, 4.0, 31.0])), max_size=8),
    both_begin=st.booleans(),
    seed=st.integers(0, 2**16),
)
@example(fates=[[]] * 60, actions=[('a asks', 0.0), ('b asks', 31.0)], both_begin=True, seed=0)
@example(
    fates=[[LATENCY]] * 4 + [[LATENCY], []] * 20,
    actions=[('a asks', 0.0), ('a replaces', 0.02)],
    both_begin=False,
    seed=0,
)
# B is left with two IKE SAs that A has forgotten, and finds out about the one after the other.
@example(
    fates=[],
    actions=[('a asks', 0.0), ('a asks', 0.5), ('a replaces', 0.0)],
    both_begin=True,
    seed=0,
)
def test_everything_ends_and_both_ends_agree(
    fates: list[list[float]], actions: list[tuple[str, float]], both_begin: bool, seed: int
) -> None:
    bench = Bench(seed=seed)
    users = Users(bench)
    pattern = iter(fates)

    def fate(datagram: Datagram) -> list[float]:
        return list(next(pattern, [LATENCY]))

    bench.fate = fate
    bench.a.mkts = bench.b.mkts = True  # INITIAL_CONTACT would hide what is left behind
    bench.a.endpoint.connect('b', bench.now)
    if both_begin:
        bench.b.endpoint.connect('a', bench.now)
    for action, pause in actions:
        users.act(action)
        bench.run(pause)
    bench.run(100)

    bench.fate = deliver
    users.act('a asks')
    bench.run(5)
    # B has received from A now, so that it asks over an IKE SA that A has, too.
    users.act('b asks')
    bench.run(200)

    ended_exactly_once(bench, users)
    for mine, theirs in ((bench.a, bench.b), (bench.b, bench.a)):
        keys_agree(mine, theirs)
    assert mirrored(bench.a) == mirrored(bench.b)
    assert bench.a.last(RpSaNegotiated).exchange == users.asked['a'][-1]
    assert bench.b.last(RpSaNegotiated).exchange == users.asked['b'][-1]


def ended_exactly_once(bench: Bench, users: Users) -> None:
    """Every request ended, and told it once."""
    for name, asked in users.asked.items():
        node = bench.nodes[name]
        ends = Counter(e.exchange for e in node.all(RpSaNegotiated))
        ends += Counter(e.exchange for e in node.all(RpSaFailed))
        assert ends == Counter(asked)
    assert Counter(e.exchange for e in bench.a.all(DeleteAnswered)) == Counter(users.deletes)


def keys_agree(mine: Node, theirs: Node) -> None:
    """Check that the other end has what we got; what only it has, it was told to delete."""
    ours = {e.keys.send_id: e.keys for e in mine.all(RpSaNegotiated)}
    accepted: dict[int, RpSaKeys] = {}
    for keys in theirs.accepted:
        assert keys.recv_id not in accepted, 'one request made two MKTs'
        accepted[keys.recv_id] = keys
    for send_id, keys in ours.items():
        other = accepted[send_id]
        assert (keys.recv_id, keys.suite) == (other.send_id, other.suite)
        assert keys.master_key == other.master_key
    deleted = {keyid for e in theirs.all(KeysDeleted) for keyid in e.recv_ids}
    assert set(accepted) - set(ours) <= deleted
    assert not set(ours) & deleted


def mirrored(node: Node) -> list[str]:
    """The IKE SAs that are up; there is one."""
    spis = [sa.origin.spis for sa in sas_of(node) if sa.finished]
    assert len(spis) == 1
    return spis
