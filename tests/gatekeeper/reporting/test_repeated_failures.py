"""A failure is told once, then once an hour; several causes, sessions and unknown addresses."""

from __future__ import annotations

from gatekeeper.reporting.repeated_failures import (
    AGAIN_AFTER,
    EVERY,
    MOST,
    MOST_OF_A_KIND,
    SETTLED_AFTER,
    RepeatedFailures,
)

V4, V6 = 'ipv4 unicast', 'ipv6 unicast'
R2, R3 = '10.0.0.2', '10.0.0.3'


def test_failure_is_told_once_and_counted_until_told_again() -> None:
    news = RepeatedFailures()
    assert news.worth_telling(R2, V4, 'no answer', 0.0) == 0
    for attempt in range(1, 60):
        assert news.worth_telling(R2, V4, 'no answer', 60.0 * attempt) is None
    assert news.worth_telling(R2, V4, 'no answer', AGAIN_AFTER) == 59
    assert news.worth_telling(R2, V4, 'no answer', AGAIN_AFTER + 1.0) is None


def test_alternating_causes_are_told_once_each() -> None:
    news = RepeatedFailures()
    said = [news.worth_telling(R2, V4, text, float(at)) for at, text in enumerate('abababab')]
    assert said == [0, 0] + [None] * 6


def test_each_session_and_each_neighbor_has_its_own_count() -> None:
    news = RepeatedFailures()
    for neighbor, session in ((R2, V4), (R2, V6), (R3, V4)):
        assert news.worth_telling(neighbor, session, 'no answer', 0.0) == 0


def test_neighbors_failure_is_not_repeated_for_each_session() -> None:
    news = RepeatedFailures()
    assert news.worth_telling(R2, EVERY, 'no answer', 0.0) == 0
    assert news.worth_telling(R2, V4, 'no answer', 1.0) is None
    assert news.worth_telling(R3, V4, 'no answer', 1.0) == 0


def test_failure_is_news_when_a_connection_held_between() -> None:
    news = RepeatedFailures()
    news.worth_telling(R2, V4, 'no answer', 0.0)
    news.is_up(R2, V4, 1.0)
    assert news.worth_telling(R2, V4, 'no answer', 1.0 + SETTLED_AFTER) == 0


def test_flapping_session_is_told_once() -> None:
    news = RepeatedFailures()
    news.worth_telling(R2, V4, 'it ends', 0.0)
    for at in range(1, 20):
        news.is_up(R2, V4, float(at))
        assert news.worth_telling(R2, V4, 'it ends', at + 0.5) is None


def test_failure_is_news_after_a_reload() -> None:
    news = RepeatedFailures()
    news.worth_telling(R2, V4, 'no answer', 0.0)
    news.forget()
    assert news.worth_telling(R2, V4, 'no answer', 1.0) == 0


def test_changing_words_fill_no_disk() -> None:
    news = RepeatedFailures()
    told = [news.worth_telling(R2, V4, f'from port {n}', 1.0 * n) for n in range(1000)]
    assert told.count(0) == MOST
    assert news.worth_telling(R2, V6, 'no answer', 1000.0) == 0


def test_news_tells_each_kind_when_another_is_used_up() -> None:
    """Eight invented identities silenced the log about a neighbor for an hour."""
    news = RepeatedFailures()
    identity, proof = 'IKE_AUTH: another identity', 'IKE_AUTH: authentication failed'
    claims = [
        news.worth_telling(R2, EVERY, f'{identity}: nobody{n}', 1.0 * n, identity)
        for n in range(100)
    ]
    assert claims.count(0) == MOST_OF_A_KIND
    assert news.worth_telling(R2, EVERY, f'{proof}: the keys differ', 100.0, proof) == 0
    assert news.worth_telling(R2, V4, 'no answer', 101.0) == 0


def test_changing_words_fill_no_memory() -> None:
    news = RepeatedFailures()
    for hour in range(100):
        for n in range(20):
            news.worth_telling(R2, V4, f'{hour} {n}', hour * AGAIN_AFTER + n)
            news.worth_telling(R2, V4, f'{hour} {n}', hour * AGAIN_AFTER + n, 'a kind')
    assert len(news._told[R2]) <= 2 * (MOST + MOST_OF_A_KIND)
