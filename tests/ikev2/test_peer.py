"""Requirements on a PAD entry."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from ikev2.constants import ExchangeType
from ikev2.errors import LocalError
from ikev2.rate import Rate
from ikev2.sa.transitions import DEFERRED, FINISHED, SERVED, TRANSITIONS, Happening, State, follow
from tests.ikev2.bench import A_ADDRESS, A_ID, Bench, peer_b


@pytest.mark.parametrize(
    ('change', 'complaint'),
    [
        ({'addresses': ()}, 'no addresses'),
        ({'addresses': ((A_ADDRESS, ip_address('fd00::2')),)}, 'both IPv6'),
        ({'remote_id': A_ID}, 'identity are the same'),
        ({'ike_lifetime': 59.0}, 'at least a minute'),
        ({'liveness_idle': 0.0}, 'more than 0'),
    ],
)
def test_peer_is_refused_by_name_when_it_cannot_work(
    change: dict[str, object], complaint: str
) -> None:
    with pytest.raises(LocalError, match=f'peer b.*{complaint}'):
        replace(peer_b(), **change)  # type: ignore[arg-type]


def test_peer_begins_with_first_address_pair() -> None:
    pairs = (
        (ip_address('10.0.0.1'), ip_address('10.0.0.2')),
        (ip_address('fd00::1'), ip_address('fd00::2')),
    )
    bench = Bench(b=replace(peer_b(), addresses=pairs))
    bench.connect()
    assert {d.remote for d in bench.sent_by(bench.a)} == {pairs[0][1]}


def test_snapshot_raises_when_peer_is_unknown() -> None:
    with pytest.raises(KeyError):
        Bench().a.endpoint.snapshot().peer('nobody')


def test_rate_counts_in_sliding_window() -> None:
    rate = Rate(2, 1.0)
    assert [rate.allow(t) for t in (0.0, 0.6, 0.9, 1.0, 1.5, 1.6)] == [
        True,
        True,
        False,
        True,
        False,
        True,
    ]


def test_transitions_end_every_state_finally() -> None:
    for state in State:
        if state != State.CLOSED:
            assert follow(state, Happening.ENDED) == State.CLOSED
    assert not [state for state, _ in TRANSITIONS if state == State.CLOSED]


def test_follow_raises_when_transition_is_not_in_table() -> None:
    with pytest.raises(ValueError, match='half open meets: we asked to rekey'):
        follow(State.HALF_OPEN, Happening.REKEY_SENT)


def test_served_has_every_state() -> None:
    assert set(SERVED) == set(State)
    for state, deferred in DEFERRED.items():
        assert state in FINISHED
        assert not deferred & SERVED[state]


def test_served_has_only_handshakes_before_authentication() -> None:
    # RFC 7296, 2.21.2: nor after it has failed.
    leading = {ExchangeType.IKE_INTERMEDIATE, ExchangeType.IKE_AUTH}
    unproven = set(State) - FINISHED
    assert unproven == {State.AUTH_SENT, State.HALF_OPEN, State.REFUSING, State.CLOSED}
    assert {state for state in unproven if SERVED[state]} == {State.HALF_OPEN}
    assert SERVED[State.HALF_OPEN] == leading
    assert not unproven & set(DEFERRED)
    assert {
        happening
        for (old, happening), new in TRANSITIONS.items()
        if old in unproven and new in FINISHED
    } == {Happening.AUTHENTICATED}
    assert not [
        new
        for (old, _), new in TRANSITIONS.items()
        if old in FINISHED and new in unproven and new != State.CLOSED
    ]
