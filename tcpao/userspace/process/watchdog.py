"""The packet process's parent: a few lines as root that end it when it is stuck, and clean up.

The daemon may not: it has dropped its privileges by then, and a descriptor of a process that was
opened before gives no right to signal it (kill(2), pidfd_send_signal(2)). The watchdog holds no
keys, reads no packet, and waits for three things: a message of the daemon, the daemon's end, the
process's end.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from tcpao.mkt import IPAddress, SocketPair
from tcpao.userspace.netlink import destroy_socket as orphans
from tcpao.userspace.netlink.nfqueue import QueueError
from tcpao.userspace.netlink.queues_in_use import listened_on
from tcpao.userspace.protocol.messages import END, KILL
from tcpao.userspace.rules.choice import left_behind, remove_stale
from tcpao.userspace.rules.interface import Kind, RulesError
from tcpao.userspace.selectors import Selector

_GRACE: Final = 1.5
"""Seconds from the daemon's end to the process's; its last segments take one."""
_STATES_AT: Final = 3
_DEAD: Final = frozenset({'06', '07', '0A'})
"""TIME-WAIT, CLOSE and LISTEN, as in /proc/net/tcp."""


def watch_over(
    work: Callable[[tuple[int, ...]], int],
    control: int,
    not_ours: Iterable[int | socket.socket],
    kinds: tuple[Kind, ...],
) -> int:
    """Run `work` in a child, and return its exit status.

    `work` gets descriptors that become readable when it has to end. `control` carries the daemon's
    messages, and that status back; the child closes `not_ours`.
    """
    daemon = _pidfd(os.getppid())
    watchdog = _pidfd(os.getpid())
    child = os.fork()
    if child == 0:
        status = 1
        try:
            # A command that it runs, and that waits for a lock, is killed with it.
            os.setpgid(0, 0)
            status = work(tuple(one for one in (daemon, watchdog) if one is not None))
        finally:
            os._exit(status)
    for one in not_ours:
        os.close(one if isinstance(one, int) else one.detach())
    status, told = _outlive(child, control, daemon)
    if os.WIFSIGNALED(status):
        if told:
            _clear(kinds)
        _end_as(os.WTERMSIG(status))
    return os.waitstatus_to_exitcode(status)


def _outlive(child: int, control: int, daemon: int | None) -> tuple[int, bool]:
    """Return how the process has ended, and whether the daemon has told it to.

    If the process was killed, wait for the daemon's end too: until then, and if the daemon was
    killed as well, its rules are the only protection of the sessions.
    """
    process = os.pidfd_open(child)
    poll = select.poll()
    for one in (control, daemon, process):
        if one is not None:
            poll.register(one, select.POLLIN)
    status: int | None = None
    until: float | None = None
    told = False
    while status is None or (os.WIFSIGNALED(status) and until is None):
        left = None if until is None else max(0.0, until - time.monotonic()) * 1000
        ready = {descriptor for descriptor, _ in poll.poll(left)}
        if process in ready:
            poll.unregister(process)
            status = os.waitpid(child, 0)[1]
            with suppress(OSError):
                os.write(control, str(os.waitstatus_to_exitcode(status)).encode())
        word = _word(control) if control in ready else None
        if word == KILL:
            if status is None:
                _kill(child)
        elif word is not None or daemon in ready:
            told = word == END
            # From here on only the end of the process is waited for, and not for long.
            for one in (control, daemon):
                if one is not None:
                    poll.unregister(one)
            until = time.monotonic() + _GRACE
        if status is None and until is not None and time.monotonic() >= until:
            _kill(child)
            status = os.waitpid(child, 0)[1]
    return status, told


def _word(control: int) -> bytes:
    """Return the daemon's message; empty if it has ended, also with unread messages of ours."""
    try:
        return os.read(control, 1)
    except ConnectionResetError:
        return b''


def _kill(child: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


def _clear(kinds: tuple[Kind, ...]) -> None:
    """Remove its rules, once no connection is left that they protect."""
    with suppress(QueueError, RulesError):
        left = left_behind(listened_on, kinds)
        selectors = {one for some in left.values() for one in some}
        if all(orphans.destroy(pair, None) for pair in _connections(selectors)):
            remove_stale(left, kinds)


def _connections(selectors: Iterable[Selector]) -> list[SocketPair]:
    """Return the connections of this host with these selectors that are up, or being opened."""
    selectors = tuple(selectors)
    found = []
    for name in ('tcp', 'tcp6'):
        with suppress(OSError):
            for line in Path(f'/proc/thread-self/net/{name}').read_text().splitlines()[1:]:
                words = line.split()
                if words[_STATES_AT] in _DEAD:
                    continue
                (local, local_port), (remote, remote_port) = map(_endpoint, words[1:3])
                pair = SocketPair(local, local_port, remote, remote_port)
                if any(_is_of(pair, one) for one in selectors):
                    found.append(pair)
    return found


def _is_of(pair: SocketPair, selector: Selector) -> bool:
    return (
        pair.remote in selector.remote
        and pair.local_port == selector.local_port
        and selector.local in (None, pair.local)
        and selector.remote_port in (None, pair.remote_port)
    )


def _endpoint(text: str) -> tuple[IPAddress, int]:
    """Parse an endpoint of /proc/net/tcp: words of 32 bits in the host's order."""
    address, _, port = text.partition(':')
    octets = b''.join(
        int(address[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(address), 8)
    )
    found = ip_address(octets)
    mapped = found.ipv4_mapped if found.version == 6 else None
    return mapped or found, int(port, 16)


def _end_as(number: int) -> None:
    """End by the same signal, so that our parent gets the same status."""
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except OSError:
        # An old kernel: the end of the channel has to suffice.
        return None
