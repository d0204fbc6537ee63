"""The packet process: a queue, its rules, the core between them, and the daemon's commands.

It does nothing else, and ends with the daemon. Order is what keeps it closed: it listens on the
queue before there is a rule, a rule is there before its key is acknowledged, and on the way out
connections are reset before their rules go. Killed, it leaves the rules, which then drop all
that they match.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
import traceback
from collections.abc import Iterable
from typing import Final

from tcpao.installer import Cause
from tcpao.key_socket import InstallError, Key
from tcpao.mkt import IPAddress
from tcpao.userspace.connections.connection import Connection
from tcpao.userspace.connections.keyring import StoredKey
from tcpao.userspace.connections.packet_path import PacketPath
from tcpao.userspace.connections.sockets_table import SocketName
from tcpao.userspace.netlink import destroy_socket as orphans
from tcpao.userspace.netlink.nfqueue import Hook, Queue, Queued, verdict
from tcpao.userspace.protocol import codec, messages
from tcpao.userspace.protocol.messages import Done, Reply, Request, State
from tcpao.userspace.protocol.refusals import Refusals
from tcpao.userspace.rules.interface import Rules, RulesError
from tcpao.userspace.selectors import Selector

# Verdicts are handed over together, but not so many that TCP waits for them, in octets.
_BATCH: Final = 64 * 1024
# Packets dealt with before the channel is looked at again.
_TURN: Final = 2048
# How many times as long as a look at our rules has taken there is none after changes of our own,
# and at most how long, in seconds.
_REST: Final = 5.0
_LONGEST_REST: Final = 0.25
# Seconds that TCP gets to say its last words when the daemon is gone.
_LAST_WORDS: Final = 1.0


class Process:
    """One per daemon."""

    def __init__(
        self, channel: socket.socket, queue: Queue, rules: Rules, tell: int | None = None
    ) -> None:
        """`tell` is a pipe to the daemon, for what operators want to know."""
        self._channel = channel
        self._queue = queue
        self._rules = rules
        self._core = PacketPath(mtu_between)
        self._refusals = Refusals(tell)
        self._heard = b''
        """Of a request that isn't complete."""
        self._verdicts: list[bytes] = []
        self._waiting = 0
        self._orphaned = False
        self._stopping = False
        # When to look whether our rules are all there, in seconds of the monotonic clock.
        self._look_at: float | None = None
        self._rested_at = 0.0
        self._changed = False

    def inherit(self, selectors: Iterable[Selector]) -> None:
        """Keep shut what a process that was killed had protected. Raises RulesError."""
        self._core.heritage.take(selectors, time.monotonic())
        self._adjust_rules()

    def run(self) -> None:
        """Until the daemon says so, or is gone."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(self._queue, select.POLLIN)
        watch = self._rules.watch
        poll.register(watch, select.POLLIN)
        parent = _parent()
        if parent is not None:
            poll.register(parent, select.POLLIN)
        while not self._stopping:
            deadline = self._core.next_deadline()
            due = [at for at in (deadline, self._look_at) if at is not None]
            timeout = max(0.0, min(due) - time.monotonic()) * 1000 if due else None
            ready = {descriptor for descriptor, _ in poll.poll(timeout)}
            # Packets first: what a socket sent before its owner's command belongs before it.
            self._packets()
            if self._channel.fileno() in ready:
                self._command()
            elif parent in ready:
                self._stopping = True
            if watch.fileno() in ready:
                self._plan_look()
            if self._look_at is not None and time.monotonic() >= self._look_at:
                self._check_rules()
            if deadline is not None and self._core.expire(time.monotonic()):
                self._drop_rules()
        self._end()

    # --- packets ----------------------------------------------------------------------------

    def _packets(self) -> None:
        for _ in range(_TURN):
            queued = self._queue.receive()
            if not queued:
                break
            for each in queued:
                self._judge(each)
            if self._waiting >= _BATCH:
                self._hand_over()
        self._hand_over()

    def _judge(self, queued: Queued) -> None:
        packet = queued.packet
        try:
            if queued.hook == Hook.LOCAL_IN:
                passed = (
                    None if self._orphaned else self._core.incoming(packet, partial=queued.partial)
                )
                if passed is None:
                    self._refusals.dropped(packet, self._core.tally, time.monotonic())
            elif self._orphaned:
                passed = self._core.last_words(packet, partial=queued.partial)
            else:
                passed = self._core.outgoing(packet, partial=queued.partial)
        except Exception:
            # Ours, and nobody's to exploit: this packet is lost, the sessions live.
            _say(traceback.format_exc())
            passed = None
        decision = verdict(self._queue.number, queued.identity, passed, passed is not packet)
        self._verdicts.append(decision)
        self._waiting += len(decision)

    def _hand_over(self) -> None:
        if self._verdicts:
            self._queue.send(self._verdicts)
            self._verdicts = []
            self._waiting = 0

    # --- commands ---------------------------------------------------------------------------

    def _command(self) -> None:
        piece = self._channel.recv(1 + messages.PIECE)
        if not piece:
            self._stopping = True
            return
        self._heard += piece[1:]
        if piece[0]:
            return
        octets, self._heard = self._heard, b''
        reply: Reply
        try:
            reply = self._carry_out(codec.decode(octets))
        except InstallError as error:
            reply = messages.refusal(error)
        except RulesError as error:
            reply = messages.refusal(InstallError(Cause.REFUSED, f'no rule: {error}'))
        with contextlib.suppress(OSError):
            self._channel.sendall(codec.encode_reply(reply))

    def _carry_out(self, request: Request) -> Reply:
        core = self._core
        match request:
            case messages.Listen(name):
                core.listen(name)
                return Done()
            case messages.Add(name, key, select, fresh):
                self._add([(name, key)], select=select, fresh=fresh)
            case messages.AddAll(keys):
                self._add(keys, select=False, fresh=False)
            case messages.Delete(name, peer, send_id, recv_id, switch_to):
                core.delete(name, peer, send_id, recv_id, switch_to)
                self._drop_rules()
            case messages.DeleteAll(keys):
                for name, peer, send_id, recv_id in keys:
                    core.discard(name, peer, send_id, recv_id)
                self._drop_rules()
            case messages.SetRNext(name, recv_id):
                core.set_rnext(name, recv_id)
            case messages.Read(name):
                return State(core.read(name))
            case messages.Release(name):
                core.release(name, time.monotonic())
                self._drop_rules()
            case messages.Loaded(peers):
                core.heritage.keep(peers)
                self._drop_rules()
            case messages.Count():
                return core.tally
            case messages.Stop():
                self._stopping = True
        return Done()

    def _add(self, keys: Iterable[tuple[SocketName, Key]], *, select: bool, fresh: bool) -> None:
        """All or none: without its rule a key protects nothing."""
        added: list[tuple[SocketName, StoredKey]] = []
        try:
            for name, key in keys:
                stored = StoredKey(
                    peer=key.peer,
                    pair=key.pair,
                    send_id=key.send_id,
                    recv_id=key.recv_id,
                    algorithm=key.algorithm,
                    tcp_options=key.tcp_options,
                    master_key=key.master_key,
                )
                self._core.add(name, stored, select=select, fresh=fresh)
                added.append((name, stored))
            self._adjust_rules()
        except (InstallError, RulesError):
            for name, stored in reversed(added):
                self._core.take_back(name, stored)
            self._drop_rules()
            raise

    def _adjust_rules(self) -> None:
        wanted = self._core.selectors()
        if wanted != self._rules.made:
            self._changed = True
            self._rules.change(wanted)

    def _drop_rules(self) -> None:
        """Rules of what is over: if they can't be removed now, they are with the next change."""
        try:
            self._adjust_rules()
        except RulesError as error:
            _say(f'rules that are not needed any more stay for now: {error}')

    def _plan_look(self) -> None:
        """Somebody may have removed rules. If it may as well have been ourselves who changed some,
        looking is not to cost more than changing."""
        try:
            if not self._rules.watch.removals():
                return
        except OSError as error:
            self._give_up(error)
        if self._look_at is None:
            now = time.monotonic()
            self._look_at = max(now, self._rested_at) if self._changed else now

    def _check_rules(self) -> None:
        """If our rules were among what was removed, unsigned segments may have passed: what is up
        goes down, and may come up again under rules."""
        self._look_at = None
        self._changed = False
        began = time.monotonic()
        try:
            if self._rules.complete():
                ended = time.monotonic()
                self._rested_at = ended + min(_REST * (ended - began), _LONGEST_REST)
                return
            self._rules.restore()
        except RulesError as error:
            self._give_up(error)
            return
        _say('our rules were removed: made anew, sessions reset')
        # What is over may be in TIME-WAIT, which not every kernel ends.
        if any(not each.is_over for each in _destroy(self._core.connections())):
            # To go on would trust what unsigned segments may have touched. `_end` keeps the rules.
            self._stopping = True

    def _give_up(self, error: Exception) -> None:
        _say(f'our rules may have been removed, and cannot be made anew: {error}')
        self._stopping = True

    # --- the end ----------------------------------------------------------------------------

    def _end(self) -> None:
        """Reset what is left, then let the traffic go: there is nobody to read it any more."""
        self._orphaned = True
        self._packets()
        lasting = _destroy(each for each in self._core.connections() if not each.is_over)
        until = time.monotonic() + _LAST_WORDS
        poll = select.poll()
        poll.register(self._queue, select.POLLIN)
        while not all(c.is_over for c in self._core.connections() if c.is_synchronized):
            left = until - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                break
            self._packets()
        alive = [str(c.pair) for c in lasting if not c.is_over]
        if alive:
            # Somebody may still hold these sockets: rather deaf than open.
            _say(
                f'{", ".join(alive)} could not be reset (this needs a kernel with '
                f'CONFIG_INET_DIAG_DESTROY): the rules stay, and drop their packets until the '
                f'next start'
            )
        else:
            try:
                self._rules.remove_all()
            except RulesError as error:
                _say(f'rules are left behind, for the next start to remove: {error}')
        self._rules.close()
        self._queue.close()


def _destroy(connections: Iterable[Connection]) -> list[Connection]:
    """Reset them; those that the kernel would not end."""
    return [each for each in list(connections) if not orphans.destroy(each.pair, each.cookie)]


def _say(text: str) -> None:
    """To the daemon's standard error, if there still is one: nothing may depend on it."""
    with contextlib.suppress(OSError):
        os.write(2, f'packet process: {text}\n'.encode())


def mtu_between(local: IPAddress, remote: IPAddress) -> int | None:
    """What the routing table says, path MTU included; None if there is no way."""
    family, level, option = (
        (socket.AF_INET, socket.IPPROTO_IP, 14)  # IP_MTU
        if local.version == 4
        else (socket.AF_INET6, socket.IPPROTO_IPV6, 24)  # IPV6_MTU
    )
    try:
        # Connecting a datagram socket sends nothing.
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(local), 0))
            probe.connect((str(remote), 9))
            return probe.getsockopt(level, option)
    except OSError:
        return None


def _parent() -> int | None:
    """A descriptor that is readable when the daemon is gone, however it went."""
    try:
        return os.pidfd_open(os.getppid())
    except OSError:
        # An old kernel: the end of the channel has to do.
        return None
