"""The packet process: queues, their rules, the core between them, and the daemon's commands.

It does nothing else, and ends with the daemon. The order fails closed: the process listens on
its queues before it makes a rule, and makes a rule before it acknowledges the rule's key. At the
end it resets connections before it removes their rules. If killed, it leaves the rules, which then
drop all matching packets.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Container, Iterable
from typing import Final

from tcpao.installer import Cause
from tcpao.key_socket import InstallError
from tcpao.userspace.connections.packet_path import PacketPath
from tcpao.userspace.netlink.owners import SocketOwners
from tcpao.userspace.process.audit import Audit
from tcpao.userspace.process.commands import Commands
from tcpao.userspace.process.judge import Judge
from tcpao.userspace.process.path_mtu import mtu_between
from tcpao.userspace.process.questions import Questions
from tcpao.userspace.process.queues import Queues
from tcpao.userspace.process.reports import say, tell_of_failure, tell_of_leftovers
from tcpao.userspace.process.resets import reset_all
from tcpao.userspace.process.rule_changes import RuleChanges
from tcpao.userspace.protocol import messages
from tcpao.userspace.protocol.counts import SharedCounts
from tcpao.userspace.protocol.messages import Done
from tcpao.userspace.protocol.refusals import Refusals
from tcpao.userspace.rules.interface import Rules, RulesError
from tcpao.userspace.selectors import Selector

# After changes of our own, the check of our rules pauses for this many times its own duration, and
# at most for so many seconds.
_REST: Final = 5.0
_LONGEST_REST: Final = 0.25
# Seconds that sessions may outlive their rules, even while another program holds the xtables lock
# or the processor.
_SHORT: Final = 0.1
# Seconds for TCP's last segments when the daemon is gone.
_LAST_WORDS: Final = 1.0


class Process:
    """The packet process of one daemon."""

    def __init__(
        self,
        channels: Iterable[socket.socket],
        queues: Queues,
        make: Callable[[], Rules],
        owners: SocketOwners,
        tell: int | None = None,
        counts: SharedCounts | None = None,
    ) -> None:
        """Make the rules, by `make`. Raises RulesError.

        `tell` is a pipe to the daemon, for reports to operators; `counts` is shared memory in which
        the daemon reads the counters.
        """
        self._questions = [Questions(one) for one in channels]
        self._queues = queues
        self._core = PacketPath(mtu_between, owners)
        self._audit = Audit(owners)
        self._commands = Commands(self._core)
        self._changes = RuleChanges(make, self._core.selectors)
        self._refusals = Refusals(tell)
        self._judge = Judge(queues, self._core, self._refusals, counts)
        self._stopping = False
        # When to check that our rules are complete, in seconds of the monotonic clock.
        self._look_at: float | None = None
        self._rested_at = 0.0
        # When sessions are reset, with rules or without.
        self._reset_at: float | None = None

    @property
    def rules(self) -> Rules:
        """Return the rules that lead packets to the queue."""
        return self._changes.rules

    def inherit(self, selectors: Iterable[Selector]) -> None:
        """Keep blocking the traffic that a killed process had protected. Raises RulesError."""
        self._core.heritage.take(selectors, time.monotonic())
        self._changes.now()

    def remove_rules(self) -> None:
        """Remove the rules, if the process can't begin. Raises RulesError."""
        self._changes.changer.call(self.rules.remove_all)

    def run(self, parents: Iterable[int] = ()) -> None:
        """Run until the daemon ends this process, or is gone.

        `parents` are descriptors that become readable when a parent ends.
        """
        poll = select.poll()
        parents = tuple(parents)
        watch = self.rules.watch
        for descriptor in (*self._descriptors(), watch.fileno(), *parents):
            poll.register(descriptor, select.POLLIN)
        while not self._stopping:
            deadline = self._core.next_deadline()
            times = (
                deadline,
                self._look_at,
                self._reset_at,
                self._audit.due,
                self._judge.limit.due,
            )
            due = [at for at in times if at is not None]
            timeout = max(0.0, min(due) - time.monotonic()) * 1000 if due else None
            ready = {descriptor for descriptor, _ in poll.poll(timeout)}
            # Packets first: those that a socket sent before its owner's command precede the
            # command.
            self._judge.work()
            self._settle(ready)
            for questions in self._questions:
                if questions.fileno() in ready:
                    self._hear(questions)
            if not ready.isdisjoint(parents):
                self._stopping = True
            if watch.fileno() in ready:
                self._plan_look()
            if self._reset_at is not None and time.monotonic() >= self._reset_at:
                self._reset()
            if self._look_at is not None and time.monotonic() >= self._look_at:
                self._look()
            if self._judge.limit.is_due(time.monotonic()):
                self._count_limited()
            self._end_what_must_not_go_on(deadline)
        self._end()

    def _descriptors(self) -> list[int]:
        asked = (one.fileno() for one in self._questions)
        return [*self._queues.descriptors, *asked, *(one.fileno() for one in self._changes.helpers)]

    def _settle(self, ready: Container[int]) -> None:
        for helper in self._changes.helpers:
            if helper.fileno() in ready:
                helper.settle()

    def _count_limited(self) -> None:
        def counted(dropped: int | None, error: RulesError | None) -> None:
            # What can't be read now is with the next reading.
            if dropped is not None and error is None:
                self._judge.note_limited(dropped)

        self._changes.looker.begin(self.rules.limited, counted)

    # --- commands ---------------------------------------------------------------------------

    def _hear(self, questions: Questions) -> None:
        try:
            request = questions.receive_request()
        except EOFError:
            self._stopping = True
            return
        if request is None:
            return
        if isinstance(request, messages.Stop):
            self._stopping = True
            questions.answer(Done())
            return
        try:
            if isinstance(request, messages.Add | messages.AddAll) and self._changes.restoring:
                raise InstallError(Cause.NO_RULE, 'our rules were removed, and are not back yet')
            outcome = self._commands.carry_out(request, time.monotonic())
        except InstallError as error:
            questions.answer(messages.refusal(error))
            # A command that was undone may have had rules for a moment.
            self._drop_rules()
            return
        if not outcome.may_change_rules:
            questions.answer(outcome.reply)
            return

        def changed(error: RulesError | None) -> None:
            if error is None:
                questions.answer(outcome.reply)
            elif outcome.take_back is not None:
                outcome.take_back()
                failure = InstallError(Cause.NO_RULE, f'no rule: {error}')
                questions.answer(messages.refusal(failure))
            else:
                tell_of_leftovers(error)
                questions.answer(outcome.reply)

        self._changes.adjust(changed)
        questions.keep_waiting()

    def _drop_rules(self) -> None:
        """Remove rules that are not needed any more; on failure the next change does it."""
        self._changes.adjust(tell_of_leftovers)

    # --- connections that must not go on ------------------------------------------------------

    def _end_what_must_not_go_on(self, deadline: float | None) -> None:
        """Forget connections that have lingered long enough, and reset those that bypassed us.

        A socket that is still open is ended first: without its rule its holder could send unsigned
        segments.
        """
        now = time.monotonic()
        if deadline is not None and deadline <= now:
            reset_all(self._core.overdue(now))
            self._judge.work()
            self._core.selectors_changed |= self._core.expire(now)
        for each in self._audit.take_bypassed(self._core, now):
            say(f'{each.pair}: reset, for octets were neither signed nor verified')
            self._refusals.bypassed(each.pair)
            reset_all([each])
        if self._core.selectors_changed:
            self._core.selectors_changed = False
            self._drop_rules()

    # --- rules that another program removes ---------------------------------------------------

    def _plan_look(self) -> None:
        """Schedule a check of the rules, after a removal by another program or perhaps by
        ourselves.

        If we may have caused it, checks must not cost more than changes.
        """
        try:
            if not self.rules.watch.removals():
                return
        except OSError as error:
            self._give_up(error)
        if self._look_at is None:
            now = time.monotonic()
            self._look_at = max(now, self._rested_at) if self._changes.changed else now

    def _look(self) -> None:
        self._look_at = None
        if self._changes.restoring:
            # The rules are being restored, and all sessions are reset already.
            return
        began = time.monotonic()

        def looked(complete: bool | None, error: RulesError | None) -> None:
            if error is not None:
                self._give_up(error)
            elif complete:
                ended = time.monotonic()
                self._rested_at = ended + min(_REST * (ended - began), _LONGEST_REST)
            elif not self._changes.restoring:
                self._make_anew()

        self._changes.look(looked)

    def _make_anew(self) -> None:
        """Restore our rules, which were removed, and reset all sessions: unsigned segments may have
        passed.

        With rules the RSTs are signed, so rules come first, unless that takes longer than `_SHORT`.
        """
        self._reset_at = time.monotonic() + _SHORT

        def restored(error: RulesError | None) -> None:
            if error is not None:
                self._give_up(error)
            # Also a connection that had a key already, and opened before there were rules.
            if self._reset():
                self._stopping = True
            self._look_at = time.monotonic()
            say('our rules were removed: made anew, sessions reset')

        self._changes.restore(restored)

    def _reset(self) -> bool:
        """End every session; return True if one can't be ended.

        To go on would trust a session that unsigned segments may have reached. The daemon, which
        notices our end, ends that session; `_end` keeps the rules.
        """
        self._reset_at = None
        # A connection that is over may be in TIME-WAIT, which not every kernel can end.
        alive = any(not each.is_over for each in reset_all(self._core.connections()))
        if alive and self._changes.restoring:
            self._hang_up()
        return alive

    def _hang_up(self) -> None:
        for questions in self._questions:
            questions.hang_up()

    def _give_up(self, error: Exception) -> None:
        say(f'our rules may have been removed, and cannot be made anew: {error}')
        self._stopping = True

    # --- the end ----------------------------------------------------------------------------

    def _end(self) -> None:
        """Reset the remaining connections, then remove the rules: no process can read the traffic
        any more.
        """
        self._judge.orphaned = True
        self._judge.work()
        lasting = reset_all(each for each in self._core.connections() if not each.is_over)
        until = time.monotonic() + _LAST_WORDS
        poll = select.poll()
        for descriptor in self._queues.descriptors:
            poll.register(descriptor, select.POLLIN)
        while not all(c.is_over for c in self._core.connections() if c.is_synchronized):
            left = until - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                break
            self._judge.work()
        alive = [str(c.pair) for c in lasting if not c.is_over]
        if alive:
            # Another process may still hold these sockets: keep the rules, which drop their
            # packets.
            say(
                f'{", ".join(alive)} could not be reset (this needs a kernel with '
                f'CONFIG_INET_DIAG_DESTROY): the rules stay, and drop their packets until the '
                f'next start'
            )
        else:
            self._changes.remove_all(tell_of_failure)
        self._finish_changes()
        self._changes.close()
        self._queues.close()

    def _finish_changes(self) -> None:
        """Judge packets until the changes under way are done."""
        poll = select.poll()
        for descriptor in self._queues.descriptors:
            poll.register(descriptor, select.POLLIN)
        for helper in self._changes.helpers:
            poll.register(helper, select.POLLIN)
        while self._changes.busy:
            ready = {descriptor for descriptor, _ in poll.poll()}
            self._judge.work()
            self._settle(ready)
