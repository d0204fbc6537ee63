"""Message IDs, retransmission and the answer cache of one IKE SA (RFC 7296, 2.1 to 2.3).

Both windows have size 1: SET_WINDOW_SIZE is neither sent nor used. Knows octets and times only, not
the content of messages, nor keys.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from hashlib import sha256

from ikev2.events import Datagrams
from ikev2.limits import Limits
from ikev2.timers import Timer, Timers


class Retransmission:
    """One request of ours, repeated with growing waits until it is answered or given up."""

    def __init__(
        self,
        datagrams: Datagrams,
        *,
        send: Callable[[Datagrams, float], None],
        lost: Callable[[float], None],
        timers: Timers,
        limits: Limits,
        random: Callable[[int], bytes],
        now: float,
        end: float,
    ) -> None:
        """Schedule the repetitions; the caller sends the request the first time.

        `lost` is called at `end`.
        """
        self._datagrams = datagrams
        self._send = send
        self._lost = lost
        self._timers = timers
        self._limits = limits
        self._random = random
        self._wait = limits.retransmit_first
        self._end = end
        self._timer = self._arm(now)

    def give_up_by(self, end: float) -> None:
        """Bring the end forward: no repetition after `end`."""
        self._end = min(self._end, end)
        if self._timer.when > self._end:
            self._timer.cancel()
            self._timer = self._timers.at(self._end, self._due)

    def repeat(self, now: float) -> None:
        """Repeat the request now; the waits go on unchanged."""
        self._send(self._datagrams, now)

    @property
    def pending(self) -> bool:
        """Return True until the request is answered or given up."""
        return self._timer.pending

    def stop(self) -> None:
        """Stop the repetitions: the request is answered, or its answer is not needed any more."""
        self._timer.cancel()

    def _arm(self, now: float) -> Timer:
        part = int.from_bytes(self._random(2), 'big') / 0xFFFF * 2 - 1
        when = now + self._wait * (1 + part * self._limits.retransmit_jitter)
        return self._timers.at(min(when, self._end), self._due)

    def _due(self, now: float) -> None:
        if now >= self._end:
            self._lost(now)
            return
        self._wait = min(2 * self._wait, self._limits.retransmit_longest)
        self._timer = self._arm(now)
        self._send(self._datagrams, now)


class Verdict(Enum):
    """Kind of a request, by its Message ID and octets."""

    NEW = auto()
    REPEATED = auto()
    """The last request again, identical, and it has been answered: repeat the answer."""
    PENDING = auto()
    """The last request again, and its answer is not ready: nothing to do."""
    OUTSIDE = auto()
    """Outside the window, or an answered Message ID with other octets: drop it."""


class AnswerWindow:
    """The peer's requests: the next Message ID, and the last answer for exact repetition."""

    def __init__(self, expected: int = 0) -> None:
        self.expected = expected
        self._digest = b''
        self._answer: Datagrams | None = None

    def judge(self, message_id: int, octets: bytes) -> Verdict:
        """Return the kind of a request, before decryption.

        A NEW request counts only after `accept`.
        """
        if message_id == self.expected:
            # A peer that doesn't wait for its answer is ahead of the window (RFC 7296, 2.3).
            return Verdict.OUTSIDE if self.pending else Verdict.NEW
        if message_id == self.expected - 1 and sha256(octets).digest() == self._digest:
            return Verdict.PENDING if self._answer is None else Verdict.REPEATED
        return Verdict.OUTSIDE

    def accept(self, octets: bytes) -> None:
        """Note that the NEW request is authentic: it is the last one now and waits for its
        answer.
        """
        self.expected += 1
        self._digest = sha256(octets).digest()
        self._answer = None

    def answered(self, datagrams: Datagrams) -> None:
        """Keep the answer to the last request."""
        self._answer = datagrams

    def again(self) -> Verdict:
        """Return the verdict for the last request split into other fragments: its octets don't
        matter.
        """
        return Verdict.PENDING if self.pending else Verdict.REPEATED

    @property
    def answer(self) -> Datagrams:
        """Return the answer to a REPEATED request."""
        return self._answer or ()

    @property
    def pending(self) -> bool:
        """Return True while an accepted request has no answer yet."""
        return bool(self._digest) and self._answer is None
