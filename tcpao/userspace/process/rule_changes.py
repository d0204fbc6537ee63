"""Changes of rules by a separate thread, and the commands that wait for them.

One change at a time: later commands go into the next. A command is answered when its rules exist,
and undone if they can't be made. A check of the rules waits for no change, since a change may wait
for the lock of the program that has just removed them.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Final

from tcpao.userspace.process.helper import Helper
from tcpao.userspace.rules.interface import Kind, Rules, RulesError
from tcpao.userspace.selectors import Selector

Answer = Callable[[RulesError | None], None]
"""Called once the rules are as wanted, or with the reason why they can't be."""

_TRIES: Final = 3
"""Attempts to restore removed rules, each as long as the command waits for its lock."""


class RuleChanges:
    """The rules of one queue, for the thread that judges packets."""

    def __init__(self, make: Callable[[], Rules], wanted: Callable[[], Set[Selector]]) -> None:
        """Make the rules by `make`, in the thread that changes them. Raises RulesError.

        `wanted` returns the traffic that needs rules.
        """
        self.changer: Final = Helper()
        self._wanted = wanted
        try:
            self.rules: Final = self.changer.call(make)
        except BaseException:
            self.changer.close()
            raise
        # Only one thread may use nftables' socket, and there is no lock to wait for.
        self.looker: Final = self.changer if self.rules.kind is Kind.NFTABLES else Helper()
        self._waiting: list[Answer] = []
        self._changing = False
        self._made: Set[Selector] | None = None
        """The traffic that has rules. Most keys do not change it: then `wanted` returns the same
        object, and thousands of selectors need no comparison."""
        self.restoring = False
        """True while removed rules are restored: no new keys until then."""
        self.changed = False
        """True if rules were changed since the last check."""

    @property
    def helpers(self) -> tuple[Helper, ...]:
        """Return the helpers whose results have to be settled."""
        return (self.changer,) if self.looker is self.changer else (self.changer, self.looker)

    @property
    def busy(self) -> bool:
        """Return True while a thread has something to do."""
        return any(helper.waiting for helper in self.helpers)

    def adjust(self, answer: Answer) -> None:
        """Change the rules to those wanted, then call `answer`."""
        self._waiting.append(answer)
        if not self._changing:
            self._next()

    def now(self) -> None:
        """Change the rules to those wanted, and wait for that: at the start. Raises RulesError."""
        wanted = frozenset(self._wanted())
        self.changed = True
        self.changer.call(lambda: self.rules.change(wanted))

    def look(self, then: Callable[[bool | None, RulesError | None], None]) -> None:
        """Check whether the rules are complete."""
        self.changed = False
        self.looker.begin(self.rules.complete, then)

    def restore(self, then: Callable[[RulesError | None], None]) -> None:
        """Make the rules again."""
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
        """End the threads, once nothing is under way."""
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
