"""Message IDs, the answer cache, and when a request is sent again (RFC 7296, 2.1 to 2.3)."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from ikev2.events import Datagrams
from ikev2.limits import Limits
from ikev2.sa.window import AnswerWindow, Retransmission, Verdict
from ikev2.timers import Timers


def test_request_is_new_once_and_then_pending() -> None:
    window = AnswerWindow()
    assert window.judge(0, b'request') is Verdict.NEW
    window.accept(b'request')
    assert window.judge(0, b'request') is Verdict.PENDING
    window.answered((b'answer',))
    assert window.judge(0, b'request') is Verdict.REPEATED
    assert window.answer == (b'answer',)


def test_request_changes_nothing_until_accepted() -> None:
    window = AnswerWindow()
    window.judge(0, b'forged')
    assert window.judge(0, b'request') is Verdict.NEW


def test_answered_id_with_other_octets_is_outside() -> None:
    window = AnswerWindow()
    window.accept(b'request')
    window.answered((b'answer',))
    assert window.judge(0, b'another') is Verdict.OUTSIDE


def test_ids_outside_window_of_one_are_refused() -> None:
    window = AnswerWindow(expected=5)
    assert window.judge(6, b'x') is Verdict.OUTSIDE
    assert window.judge(4, b'x') is Verdict.OUTSIDE
    assert window.judge(3, b'x') is Verdict.OUTSIDE


class _Sender:
    """Records when a request is sent again and when it is given up."""

    def __init__(self, jitter: bytes, limits: Limits | None = None) -> None:
        self.timers = Timers()
        self.now = 0.0
        self.sent: list[float] = []
        self.lost: list[float] = []
        limits = limits or Limits()
        self.retransmission = Retransmission(
            (b'request',),
            send=self._send,
            lost=self.lost.append,
            timers=self.timers,
            limits=limits,
            random=lambda length: jitter,
            now=0.0,
            end=limits.give_up,
        )

    def _send(self, datagrams: Datagrams, now: float) -> None:
        assert datagrams == (b'request',)
        assert now == self.now
        self.sent.append(self.now)

    def run(self) -> None:
        while (when := self.timers.next()) is not None:
            self.now = when
            self.timers.run(when)


def test_waits_double_and_end_after_half_a_minute() -> None:
    sender = _Sender(b'\x7f\xff')
    sender.run()
    waits = [b - a for a, b in pairwise([0.0, *sender.sent])]
    for earlier, later in pairwise(waits):
        assert later > 1.9 * earlier or 7.9 < later < 8.1
    assert len(sender.sent) >= 5
    assert sender.lost == [30.0]


def test_jitter_makes_senders_drift_apart() -> None:
    early, late = _Sender(b'\x00\x00'), _Sender(b'\xff\xff')
    early.run()
    late.run()
    assert early.sent[0] == 0.4
    assert late.sent[0] == 0.6
    assert early.lost == late.lost == [30.0]


def test_answered_request_is_not_repeated() -> None:
    sender = _Sender(b'\x7f\xff')
    sender.retransmission.stop()
    sender.run()
    assert sender.sent == []
    assert sender.lost == []


def test_give_up_by_may_hurry_but_not_delay() -> None:
    sender = _Sender(b'\x7f\xff')
    sender.retransmission.give_up_by(3.0)
    sender.retransmission.give_up_by(20.0)
    sender.run()
    assert sender.lost == [3.0]


def test_give_up_by_holds_at_once_when_wait_is_long() -> None:
    sender = _Sender(b'\x7f\xff', replace(Limits(), retransmit_first=8.0))
    sender.retransmission.give_up_by(5.0)
    sender.run()
    assert sender.lost == [5.0]
    assert not sender.sent
