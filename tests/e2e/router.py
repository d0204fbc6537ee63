"""A node with a real ExaBGP daemon in it, started from a configuration file.

What the tests wait for is an event or a state with a deadline; what never comes fails with the
daemon's log in the message.
"""

from __future__ import annotations

import json
import os
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

from gatekeeper.reporting.events import EventName, OperatorEvent
from gatekeeper.tools.doctor.host import sockets_in
from lab.demo.timeline import parse
from lab.exabgp_cli import CommandLine
from lab.tcpao_backend import under
from lab.topology import Node
from lab.unprivileged import PROJECT, daemon_environment, unreadable
from tcpao.backend import Preference

# For what takes a moment on an idle machine; the guest is slow, and the host may be busy.
PATIENCE = 60.0
LOOK_EVERY = 0.05
HOME = 'run/e2e'
"""Everything of a daemon's, in its node's own file system."""

Found = TypeVar('Found')


class Dropped(StrEnum):
    """Why a backend doesn't let a segment in; the counter's name in `show ikev2 backend json`."""

    BAD = 'bad'
    KEY_NOT_FOUND = 'key_not_found'
    UNSIGNED = 'required_but_missing'


NETSTAT = {
    Dropped.BAD: 'TCPAOBad',
    Dropped.KEY_NOT_FOUND: 'TCPAOKeyNotFound',
    Dropped.UNSIGNED: 'TCPAORequired',
}


def within(seconds: float, look: Callable[[], Found | None], what: Callable[[], str]) -> Found:
    """The first thing that `look` finds; fails when there is nothing in time."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f'{what()}: not within {seconds:g} s')
        time.sleep(LOOK_EVERY)


def let_others_in(node: Node) -> None:
    """Let every user in this node reach the project and its Python, under the paths that they have.

    A private home on the way is covered by an empty folder, in which only these are shown again.
    """
    needed = {PROJECT, *(Path(path).resolve() for path in (sys.prefix, sys.base_prefix))}
    # One inside another is shown with it.
    outermost = {path for path in needed if not any(other in path.parents for other in needed)}
    homes: dict[Path, list[str]] = {}
    for path in outermost:
        obstacle = unreadable([path])
        if obstacle is not None:
            homes.setdefault(obstacle, []).append(str(path))
    for home, paths in homes.items():
        node.run(['sh', '-c', COVER, 'cover', str(home), *sorted(paths)])


COVER = """
set -e
home=$1; shift
for path; do mkdir -p "/run/shown$path"; mount --bind "$path" "/run/shown$path"; done
mount -t tmpfs -o mode=755 tmpfs "$home"
for path; do
    mkdir -p "$path"
    mount --bind "/run/shown$path" "$path"
    umount --lazy "/run/shown$path"
done
"""


class Router:
    """One daemon at a time, with its files."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.name = node.name
        self.home = node.proc / 'root' / HOME
        self.home.mkdir(exist_ok=True)
        self.pipes = node.proc / 'root/run/exabgp'
        self.process: subprocess.Popen[bytes] | None = None
        self.backend = Preference.AUTO
        self._runs = 0
        self._log_begins = 0
        self._open_to_all = False
        self._line: CommandLine | None = None
        self._seen: list[OperatorEvent] = []
        self._read = 0

    # --- files ------------------------------------------------------------------------------

    def write(self, name: str, content: str | bytes, mode: int = 0o644) -> Path:
        """A file in the daemon's home; the path is that in the node."""
        path = self.home / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return Path('/') / HOME / name

    def configure(self, text: str) -> None:
        """The configuration that the next start or reload reads; its sessions are protected by
        the backend that the module is about."""
        self.write('exabgp.conf', under(text, self.backend))

    @property
    def log(self) -> str:
        """Return the log of all daemons here."""
        return self._logged(0)

    @property
    def log_of_this_run(self) -> str:
        """Return the log of the daemon that runs, or ran last."""
        return self._logged(self._log_begins)

    def _logged(self, start: int) -> str:
        path = self.home / 'log'
        if not path.exists():
            return ''
        with path.open('rb') as log:
            log.seek(start)
            return log.read().decode(errors='replace')

    @property
    def timeline(self) -> Path:
        """The events of the daemon that runs, or ran last."""
        return self.home / f'timeline.{self._runs}'

    @property
    def key_table(self) -> Path:
        """Return the path of the daemon's master keys."""
        return self.home / f'keys.{self._runs}'

    def key_list(self) -> list[dict[str, Any]]:
        """Every key that the daemon has had, oldest first; ends as the opener sees them."""
        while True:
            # A reader may see half of what is being written.
            with suppress(json.JSONDecodeError):
                table: list[dict[str, Any]] = json.loads(self.key_table.read_text())
                return table

    # --- life -------------------------------------------------------------------------------

    def start(
        self,
        *,
        listen: str | None = None,
        drop: bool = False,
        cli: bool = True,
        environment: Mapping[str, str] | None = None,
        program: tuple[str, ...] = ('exabgp-gatekeeper',),
    ) -> None:
        """Start the daemon. `listen` is the address of exabgp.tcp.bind; with `drop` it becomes
        `nobody`, as it does by default, wherever the project lies."""
        assert not self.is_running
        self._runs += 1
        self._seen, self._read = [], 0
        variables = {
            'exabgp_ikev2_timeline': f'/{HOME}/{self.timeline.name}',
            'exabgp_ikev2_keytable': f'/{HOME}/{self.key_table.name}',
            'exabgp_ikev2_router': self.name,
            # Impostors speak from r1, and its own kernel would not let them.
            'exabgp_ikev2_secondnet': str(self.name != 'r1').lower(),
            'exabgp_api_cli': str(cli).lower(),
        }
        if drop and not self._open_to_all:
            let_others_in(self.node)
            self._open_to_all = True
        if not drop:
            variables |= daemon_environment()
        if listen is not None:
            variables |= {'exabgp_tcp_bind': listen, 'exabgp_tcp_port': '179'}
        variables |= environment or {}
        self._make_pipes()
        with (self.home / 'log').open('ab') as log:
            self._log_begins = log.tell()
            self.process = self.node.popen(
                [*program, 'server', f'/{HOME}/exabgp.conf'],
                environment=variables,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _make_pipes(self) -> None:
        self.pipes.mkdir(exist_ok=True)
        for name in ('exabgp.in', 'exabgp.out'):
            path = self.pipes / name
            # A new pair each time: an answer to the daemon before this one may still be in it.
            path.unlink(missing_ok=True)
            os.mkfifo(path)
            path.chmod(0o666)
            assert stat.S_ISFIFO(path.stat().st_mode)

    @property
    def is_running(self) -> bool:
        """Return whether the daemon's process is there."""
        return self.process is not None and self.process.poll() is None

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal that ends the daemon, and wait for its end."""
        if self._line is not None:
            self._line.close()
            self._line = None
        if self.process is not None and self.is_running:
            packets = self.packet_process()
            watched = None
            if packets is not None:
                # It may have been killed, too, and the daemon have noticed it just now.
                with suppress(ProcessLookupError):
                    watched = os.pidfd_open(packets)
            self.process.send_signal(number)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(PATIENCE)
                raise AssertionError(
                    self.told(f'the daemon did not end on {number.name}')
                ) from None
            finally:
                if watched is not None:
                    # It ends with the daemon, when it has taken its rules away.
                    ended = select.select([watched], [], [], PATIENCE)[0]
                    os.close(watched)
                    assert ended, self.told('the packet process did not end')

    def packet_process(self) -> int | None:
        """The daemon's packet process, if it has one that runs."""
        if self.backend is not Preference.USERSPACE or self.process is None:
            return None
        watchdog = _child_that_judges_packets(self.process.pid)
        return None if watchdog is None else _child_that_judges_packets(watchdog)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal that doesn't end it: SIGUSR1 reloads. A good reload has the helper for
        the command line replaced: who asks afterwards waits for the new one."""
        assert self.process is not None
        if self._line is not None:
            # A new helper needs the first message again.
            self._line.close()
            self._line = None
        self.process.send_signal(number)

    def await_helper(self, before: int | None = None) -> None:
        """Until the daemon has a helper for the command line, another one than `before`."""
        within(
            PATIENCE,
            lambda: self.cli_helper() not in (None, before),
            lambda: self.told('a helper for the command line'),
        )

    # --- what it says -----------------------------------------------------------------------

    def told(self, message: str) -> str:
        """A message with the end of the daemon's log."""
        return '\n'.join([f'{self.name}: {message}; its log ends:', *self.log.splitlines()[-60:]])

    @property
    def events(self) -> list[OperatorEvent]:
        """Every event of the daemon that runs, or ran last, oldest first."""
        try:
            with self.timeline.open('rb') as file:
                file.seek(self._read)
                whole, newline, _ = file.read().rpartition(b'\n')
        except FileNotFoundError:
            return self._seen
        self._read += len(whole) + len(newline)
        for line in whole.decode().splitlines():
            event = parse(line)
            assert event is not None, line
            self._seen.append(event)
        return self._seen

    def named(
        self, name: EventName, session: str | None = None, **details: object
    ) -> list[OperatorEvent]:
        """The events of that name so far, of a session if one is given, with these details."""
        return [
            event
            for event in self.events
            if event.event is name
            and session in (None, event.session)
            and all(event.details.get(key) == value for key, value in details.items())
        ]

    def await_event(
        self,
        name: EventName,
        session: str | None = None,
        *,
        count: int = 1,
        seconds: float = PATIENCE,
        **details: object,
    ) -> OperatorEvent:
        """The `count`th such event, which may have happened already."""

        def look() -> OperatorEvent | None:
            found = self.named(name, session, **details)
            if len(found) >= count:
                return found[count - 1]
            assert self.is_running, self.told('the daemon has ended')
            return None

        return within(
            seconds, look, lambda: self.told(f'event {name} {session or ""} {details} no. {count}')
        )

    def await_log(self, text: str, seconds: float = PATIENCE) -> None:
        """Until the daemon that runs, or ran last, has logged it."""
        within(
            seconds,
            lambda: text in self._logged(self._log_begins),
            lambda: self.told(f'{text!r} in the log'),
        )

    # --- what it is asked -------------------------------------------------------------------

    def ask(self, command: str) -> list[str]:
        """A command of ExaBGP's own command line, over its pipes."""
        assert self.is_running, self.told('the daemon has ended')
        if self._line is None:
            self._line = CommandLine(self.pipes)
        return self._line.ask(command, seconds=PATIENCE)

    def cli_helper(self) -> int | None:
        """The daemon's process that serves the pipes, once it does: every good reload has it
        replaced, and what is asked meanwhile is lost."""
        pipe = os.stat(self.pipes / 'exabgp.in')
        for pid in (int(name) for name in os.listdir('/proc') if name.isdecimal()):
            if pid != os.getpid() and (pipe.st_dev, pipe.st_ino) in _open_files(pid):
                return pid
        return None

    def show(self) -> list[dict[str, Any]]:
        """`show ikev2 json`."""
        rows: list[dict[str, Any]] = json.loads(''.join(self.ask('show ikev2 json')))
        return rows

    def neighbors(self) -> list[dict[str, Any]]:
        """`show neighbor json`, each neighbor's `duration` in seconds."""
        rows: list[dict[str, Any]] = json.loads(''.join(self.ask('show neighbor json')))
        return rows

    def routes(self) -> set[str]:
        """The prefixes that it has from its neighbors."""
        return {
            word for line in self.ask('show adj-rib in') for word in line.split() if '/' in word
        }

    def established(self) -> dict[str, int]:
        """Seconds of up-time, by the families of each session that is up."""
        return {
            ' + '.join(row['families']): row['duration']
            for row in self.neighbors()
            if row['state'] == 'up'
        }

    def await_established(self, *sessions: str, seconds: float = PATIENCE) -> None:
        """Until these sessions are up, as ExaBGP itself says."""
        within(
            seconds,
            lambda: self.established().keys() >= set(sessions),
            lambda: self.told(f'sessions {sessions} up'),
        )

    def await_routes(self, *prefixes: str, seconds: float = PATIENCE) -> None:
        """Until it has these prefixes."""
        within(
            seconds,
            lambda: self.routes() >= set(prefixes),
            lambda: self.told(f'routes {prefixes}'),
        )

    def counters(self) -> dict[str, Any]:
        """`show ikev2 backend json`."""
        found: dict[str, Any] = json.loads(''.join(self.ask('show ikev2 backend json')))
        return found

    def dropped(self, why: Dropped) -> int:
        """Return the number of segments that the backend has not let in, from the kernel where it
        is the backend."""
        if self.backend is Preference.KERNEL:
            return self.counter(NETSTAT[why])
        count = self.counters()[why]
        assert isinstance(count, int)
        return count

    def await_dropped(self, why: Dropped, before: int) -> None:
        """Until there are more of these than before: a packet process may be late."""
        within(
            PATIENCE,
            lambda: self.dropped(why) > before,
            lambda: self.told(f'more than {before} segments are {why}'),
        )

    # --- what its kernel says ---------------------------------------------------------------

    def counter(self, name: str) -> int:
        """A counter of the node's network namespace (/proc/net/netstat)."""
        lines = (self.node.proc / 'net/netstat').read_text().splitlines()
        names, values = (line.split() for line in lines if line.startswith('TcpExt:'))
        return int(values[names.index(name)])

    def set(self, setting: str, value: object) -> None:
        """A setting of the node's network namespace, below /proc/sys/net."""
        self.node.run(['sh', '-c', f'echo {value} > /proc/sys/net/{setting}'])

    def await_listening(self, port: int = 179) -> None:
        """Until it listens: it does when the first configuration is loaded and guarded."""
        table = self.node.proc / 'net' / 'tcp'
        within(
            PATIENCE,
            lambda: port in {number for number, _ in sockets_in(table.read_text(), 'tcp')},
            lambda: self.told(f'port {port} listens'),
        )

    def connections(self, port: int = 179) -> list[tuple[str, str, int]]:
        """Established TCP connections to or from that port: local address, remote address and
        the port of the opener."""
        return [
            (local, remote, lport if rport == port else rport)
            for local, lport, remote, rport in _established(self.node.proc / 'net')
            if port in (lport, rport)
        ]


def _open_files(pid: int) -> Iterator[tuple[int, int]]:
    """Device and inode of each. The process, or a file, may be gone at any moment."""
    folder = f'/proc/{pid}/fd'
    with suppress(OSError):
        for descriptor in os.listdir(folder):
            with suppress(OSError):
                found = os.stat(f'{folder}/{descriptor}')
                yield found.st_dev, found.st_ino


def _established(net: Path) -> Iterator[tuple[str, int, str, int]]:
    """Both ends of each connection in ESTABLISHED (proc(5), /proc/net/tcp)."""
    for table in ('tcp', 'tcp6'):
        for line in (net / table).read_text().splitlines()[1:]:
            _, local, remote, state, *_ = line.split()
            if state == '01':
                yield *_end(local), *_end(remote)


def _end(text: str) -> tuple[str, int]:
    """`0100000A:9C41`: words of the address in host byte order."""
    words, port = text.split(':')
    octets = b''.join(
        int(words[at : at + 8], 16).to_bytes(4, 'little') for at in range(0, len(words), 8)
    )
    return str(ip_address(octets)), int(port, 16)


def _child_that_judges_packets(parent: int) -> int | None:
    """Return the child of this process; the watchdog has the same name as its child."""
    for children in Path(f'/proc/{parent}/task').glob('*/children'):
        # A thread, or a child, may have ended meanwhile.
        with suppress(OSError):
            for pid in children.read_text().split():
                with suppress(OSError):
                    words = Path(f'/proc/{pid}/cmdline').read_bytes().split(b'\0')
                    if b'tcpao.userspace' in words:
                        return int(pid)
    return None
