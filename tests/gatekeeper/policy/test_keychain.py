"""Keychains: which keys are accepted, which is preferred, when that changes, what is refused."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.policy.keychain import (
    ALWAYS,
    ChainKey,
    Keychain,
    KeychainError,
    Lifetime,
    check_keychain,
)
from keymaterial import Secret
from tcpao.mkt import ALGORITHMS


def key(number: int, **changes: Any) -> ChainKey:
    made = ChainKey(
        number, number, number, ALGORITHMS['hmac-sha-1-96'], Secret(b'secret %d' % number)
    )
    return replace(made, **changes)


def lived(number: int, send: tuple[float, float], accept: tuple[float, float]) -> ChainKey:
    return key(number, send=Lifetime(*send), accept=Lifetime(*accept))


def chain(*keys: ChainKey) -> Keychain:
    return Keychain('core', keys)


def numbers(keys: tuple[ChainKey, ...]) -> list[int]:
    return [key.number for key in keys]


def preferred(keychain: Keychain, wall: float) -> int | None:
    found = keychain.preferred(wall)
    return found.number if found is not None else None


# Two keys whose accept-lifetimes overlap around the change: RFC 8177 2.2.
ROLLOVER = chain(lived(1, (0, 110), (-10, 120)), lived(2, (100, 200), (90, 210)))


# --- a lifetime -----------------------------------------------------------------------------


def test_lifetime_begins_with_its_start_and_ends_before_its_end() -> None:
    lifetime = Lifetime(100, 200)
    assert [lifetime.covers(wall) for wall in (99.9, 100, 199.9, 200)] == [False, True, True, False]


def test_always_has_no_end() -> None:
    """RFC 8177: the default of a lifetime is always."""
    assert key(1).send == key(1).accept == ALWAYS
    assert ALWAYS.covers(-1e12)
    assert ALWAYS.covers(1e12)
    assert str(ALWAYS) == 'always'


def test_lifetimes_are_written_in_utc() -> None:
    assert str(Lifetime(0, 86400)) == '1970-01-01T00:00:00Z 1970-01-02T00:00:00Z'
    assert str(Lifetime(0)) == '1970-01-01T00:00:00Z infinite'
    assert str(Lifetime(0, 1e12)) == '1970-01-01T00:00:00Z infinite', 'beyond the calendar'


def test_tolerance_widens_both_ends() -> None:
    assert Lifetime(100, 200).widened(5) == Lifetime(95, 205)
    assert ALWAYS.widened(5) == ALWAYS


# --- what holds at a time -------------------------------------------------------------------


@pytest.mark.parametrize(
    ('wall', 'accepted', 'sends'),
    [
        (-11, [], None),
        (-10, [1], None),
        (0, [1], 1),
        (90, [1, 2], 1),
        (100, [1, 2], 2),
        (110, [1, 2], 2),
        (120, [2], 2),
        (200, [2], None),
        (210, [], None),
    ],
)
def test_rollover_follows_the_lifetimes(
    wall: float, accepted: list[int], sends: int | None
) -> None:
    assert numbers(ROLLOVER.accepted(wall)) == accepted
    assert preferred(ROLLOVER, wall) == sends


def test_newest_send_lifetime_wins_wherever_it_stands() -> None:
    newest, other = lived(1, (50, inf), (0, inf)), lived(2, (10, inf), (0, inf))
    assert preferred(chain(newest, other), 60) == preferred(chain(other, newest), 60) == 1


def test_lowest_number_is_sent_when_keys_began_together() -> None:
    """So a key that is added changes nothing before the old one is taken out."""
    assert preferred(chain(key(7), key(3), key(9)), 0) == 3


def test_failing_key_can_be_left_out() -> None:
    found = ROLLOVER.preferred(105, without={2})
    assert found is not None
    assert found.number == 1
    assert ROLLOVER.preferred(105, without={1, 2}) is None


def test_every_change_is_told_in_order() -> None:
    wall, changes = -1000.0, []
    while (change := ROLLOVER.next_change(wall)) is not None:
        changes.append(change)
        wall = change
    assert changes == [-10, 0, 90, 100, 110, 120, 200, 210]


def test_chain_without_lifetimes_never_changes() -> None:
    assert chain(key(1), key(2)).next_change(0) is None


def test_expired_chain_tells_that_it_has_ended() -> None:
    assert ROLLOVER.why_denied(300) == (
        'keychain core has expired: key 2 (SendID 2, RecvID 2) was the last that might be sent '
        'under, until 1970-01-01T00:03:20Z'
    )


def test_key_is_never_sent_when_its_lifetime_ends_at_its_start() -> None:
    """RFC 8177 3: such a lifetime is not valid, and the key is for acceptance only."""
    only = chain(lived(1, (100, 100), (0, 200)))
    check_keychain(only)
    assert numbers(only.accepted(100)) == [1]
    assert preferred(only, 100) is None
    assert only.next_turn(0) is None
    assert 'has expired' in only.why_denied(0), 'it will not come'


def test_next_turn_is_told_with_its_key() -> None:
    turns = []
    wall: float | None = -20.0
    while wall is not None:
        turn = ROLLOVER.next_turn(wall)
        wall = turn[0] if turn is not None else None
        if turn is not None:
            turns.append((turn[0], turn[1].number if turn[1] is not None else None))
    assert turns == [(0, 1), (100, 2), (200, None)]


def test_lifetimes_are_no_turn_when_they_change_no_preference() -> None:
    later = chain(lived(1, (0, 200), (0, 300)), lived(2, (-50, 100), (-50, 100)))
    assert later.next_turn(50) == (200, None)
    assert chain(key(1)).next_turn(0) is None


def test_future_chain_tells_when_it_begins() -> None:
    assert ROLLOVER.why_denied(-5) == (
        'keychain core has no key that may be sent under before key 1 (SendID 1, RecvID 1) at '
        '1970-01-01T00:00:00Z'
    )


times = st.integers(-50, 50).map(float) | st.sampled_from([-inf, inf])
chains = st.lists(st.tuples(times, times, times, times), max_size=6).map(
    lambda rows: chain(*(lived(n, (a, b), (c, d)) for n, (a, b, c, d) in enumerate(rows)))
)


@given(chains, st.floats(-60, 60))
def test_nothing_changes_between_two_changes(keychain: Keychain, wall: float) -> None:
    end = keychain.next_change(wall)
    between = (wall + (60.0 if end is None else end)) / 2
    if between < wall:
        return
    assert numbers(keychain.accepted(wall)) == numbers(keychain.accepted(between))
    assert preferred(keychain, wall) == preferred(keychain, between)


@given(chains, st.floats(-60, 60))
def test_sent_key_is_accepted(keychain: Keychain, wall: float) -> None:
    found = keychain.preferred(wall)
    assert found is None or found in keychain.accepted(wall)


# --- the same key, or another one -----------------------------------------------------------


def test_lifetimes_and_number_do_not_make_another_key() -> None:
    one, other = key(1), lived(1, (0, 10), (0, 20))
    other = replace(other, number=5)
    assert one.is_same_key(other)
    assert not one.clashes(other)
    assert chain(other).find(one) is other


@pytest.mark.parametrize(
    'change',
    [
        {'master_key': Secret(b'another')},
        {'algorithm': ALGORITHMS['aes-128-cmac-96']},
        {'tcp_options': False},
        {'send_id': 9},
        {'recv_id': 9},
    ],
)
def test_keys_clash_when_they_share_an_id_and_differ(change: dict[str, Any]) -> None:
    assert key(1).clashes(key(1, **change))
    assert chain(key(1, **change)).find(key(1)) is None


def test_keys_do_not_clash_when_their_ids_differ() -> None:
    assert not key(1).clashes(key(2))


# --- what can't be used ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ('keys', 'reason'),
    [
        ([], 'keychain core has no key'),
        ([key(1), key(2, send_id=1)], 'keychain core key 2: send-id 1 is that of key 1 too'),
        ([key(1), key(2, recv_id=1)], 'keychain core key 2: recv-id 1 is that of key 1 too'),
        ([lived(1, (11, 10), (0, 20))], 'send-lifetime .* ends before it begins'),
        ([lived(1, (5, 5), (20, 20))], 'accept-lifetime .* is empty'),
        ([lived(1, (0, 20), (5, 30))], 'is not within accept-lifetime'),
        ([lived(1, (0, 20), (0, 10))], 'is not within accept-lifetime'),
        ([key(1, accept=Lifetime(0, 10))], 'send-lifetime always is not within'),
        ([key(1, master_key=Secret(bytes(81)))], 'has 81 octets, Linux takes at most 80'),
        (
            [key(1, algorithm=ALGORITHMS['hmac-sha256-128-hkdf'], master_key=Secret(bytes(31)))],
            'has 31 octets, hmac-sha256-128-hkdf needs at least 32',
        ),
        (
            [key(1, algorithm=ALGORITHMS['kmac256-128'], master_key=Secret(bytes(31)))],
            'kmac256-128 needs at least 32',
        ),
        ([key(n) for n in range(256)], 'more than 255 keys'),
    ],
)
def test_unusable_chain_is_refused(keys: list[ChainKey], reason: str) -> None:
    with pytest.raises(KeychainError, match=reason):
        check_keychain(chain(*keys))


def test_good_chain_is_accepted() -> None:
    check_keychain(ROLLOVER)
    check_keychain(chain(*(key(n) for n in range(255))))


def test_chain_never_shows_a_secret() -> None:
    shown = repr(ROLLOVER) + str(ROLLOVER.keys[0]) + str(ROLLOVER)
    assert 'secret' not in shown.replace('Secret', '').replace('secret_', '')
