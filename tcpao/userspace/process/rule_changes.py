"""Rules as the keys need them, changed by a thread of their own, and commands that wait for that.

One change at a time: what comes meanwhile goes into the next. A command is answered when its
rules are there, and taken back where they can't be made. A look at the rules waits for no change,
for a change may wait for the lock of whoever has just removed them.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Final

from tcpao.userspace.process.helper import Helper
from tcpao.userspace.rules.interface import Kind, Rules, RulesError
from tcpao.userspace.selectors import Selector

Answer = Callable[[RulesError | None], None]
"""Told once the rules are as they were wanted, or why they can't be."""

_TRIES: Final = 3
"""Of making removed rules anew, each as long as the command waits for its lock."""


class RuleChanges:
    """The rules of one queue, seen from the thread that judges packets."""

    def __init__(self, make: Callable[[], Rules], wanted: Callable[[], Set[Selector]]) -> None:
        """`make` makes them, in the thread that changes them; `wanted` says what they must be
        for. Raises RulesError."""
        self.changer: Final = Helper()
        self._wanted = wanted
        try:
            self.rules: Final = self.changer.call(make)
        except BaseException:
            self.changer.close()
            raise
        # Only one thread may use nftables' socket, and nobody has a lock there.
        self.looker: Final = self.changer if self.rules.kind is Kind.NFTABLES else Helper()
        self._waiting: list[Answer] = []
        self._changing = False
        self._made: Set[Selector] | None = None
        """What rules are there for. Most keys change nothing of it: then it is the same object
        that is wanted, and thousands of selectors needn't be compared."""
        self.restoring = False
        """Our rules were removed: no new keys until they are there again."""
        self.changed = False
        """Since it was last asked whether they are complete."""

    @property
    def helpers(self) -> tuple[Helper, ...]:
        """Whose outcomes are to be settled."""
        return (self.changer,) if self.looker is self.changer else (self.changer, self.looker)

    @property
    def busy(self) -> bool:
        """True while a thread has something to do."""
        return any(helper.waiting for helper in self.helpers)

    def adjust(self, answer: Answer) -> None:
        """Have the rules that are wanted."""
        self._waiting.append(answer)
        if not self._changing:
            self._next()

    def now(self) -> None:
        """As `adjust`, and wait for it: at the start. Raises RulesError."""
        wanted = frozenset(self._wanted())
        self.changed = True
        self.changer.call(lambda: self.rules.change(wanted))

    def look(self, then: Callable[[bool | None, RulesError | None], None]) -> None:
        """Whether they are complete."""
        self.changed = False
        self.looker.begin(self.rules.complete, then)

    def restore(self, then: Callable[[RulesError | None], None]) -> None:
        """Make them anew."""
        self.restoring = True

        def restored(_: object, error: RulesError | None) -> None:
            self.restoring = False
            then(error)

        self.changed = True
        self.changer.begin(self._restore, restored)

    def remove_all(self, then: Callable[[RulesError | None], None]) -> None:
        """Remove every rule of the queue."""
        self._made = None
        self.changer.begin(self.rules.remove_all, lambda _, error: then(error))

    def close(self) -> None:
        """Nothing more will be asked, and nothing is under way."""
        for helper in self.helpers:
            helper.close()
        self.rules.close()

    def _restore(self) -> None:
        for left in reversed(range(_TRIES)):
            try:
                self.rules.restore()
            except RulesError:
                if not left:
                    raise
            else:
                return

    def _next(self) -> None:
        waiting, self._waiting = self._waiting, []
        wanted = frozenset(self._wanted())
        if wanted is self._made or wanted == self.rules.made:
            self._made = wanted
            for answer in waiting:
                answer(None)
            return

        def changed(_: object, error: RulesError | None) -> None:
            self._changing = False
            self._made = wanted if error is None else None
            for answer in waiting:
                answer(error)
            if self._waiting and not self._changing:
                self._next()

        self._changing = self.changed = True
        self.changer.begin(lambda: self.rules.change(wanted), changed)
