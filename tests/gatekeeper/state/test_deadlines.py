"""Deadlines by subject."""

from __future__ import annotations

import gc
import weakref

from gatekeeper.state.deadlines import Deadlines, Due


def test_deadlines_come_in_the_order_of_their_time() -> None:
    deadlines = Deadlines()
    deadlines.set(Due.REKEY, 'a', 5.0)
    deadlines.set(Due.READ, 'a', 3.0)
    deadlines.set(Due.REKEY, 'b', 4.0)
    assert deadlines.next() == 3.0
    came = [deadlines.pop(9.0) for _ in range(3)]
    assert came == [(Due.READ, 'a'), (Due.REKEY, 'b'), (Due.REKEY, 'a')]


def test_deadline_does_not_come_before_its_time() -> None:
    deadlines = Deadlines()
    deadlines.set(Due.HARD, 'a', 5.0)
    assert deadlines.pop(4.9) is None
    assert deadlines.pop(5.0) == (Due.HARD, 'a')
    assert deadlines.pop(6.0) is None


def test_deadline_moves_when_it_is_set_again() -> None:
    deadlines = Deadlines()
    deadlines.set(Due.HARD, 'a', 5.0)
    deadlines.set(Due.HARD, 'a', 8.0)
    assert deadlines.pop(7.0) is None
    assert deadlines.next() == 8.0


def test_cancelled_deadline_never_comes() -> None:
    deadlines = Deadlines()
    deadlines.set(Due.HARD, 'a', 5.0)
    deadlines.cancel(Due.HARD, 'a')
    assert deadlines.next() is None


def test_deadlines_of_one_subject_are_cancelled_and_no_others() -> None:
    deadlines = Deadlines()
    deadlines.set(Due.HARD, 'a', 5.0)
    deadlines.set(Due.REKEY, 'a', 5.0)
    deadlines.set(Due.REKEY, 'b', 6.0)
    deadlines.cancel_all('a')
    assert deadlines.pop(9.0) == (Due.REKEY, 'b')


def test_cancelled_deadline_is_not_kept_until_its_time() -> None:
    # A neighbor that comes up and fails each minute leaves a hard lifetime of a day each time.
    class Subject: ...

    deadlines = Deadlines()
    deadlines.set(Due.REKEY, 'living', 9.0)
    kept = []
    for _ in range(1000):
        subject = Subject()
        kept.append(weakref.ref(subject))
        deadlines.set(Due.HARD, subject, 86400.0)
        deadlines.set(Due.CEASE, subject, 86395.0)
        deadlines.cancel_all(subject)
    del subject
    gc.collect()
    assert sum(one() is not None for one in kept) < 100
    assert deadlines.pop(9.0) == (Due.REKEY, 'living')
    assert deadlines.next() is None
