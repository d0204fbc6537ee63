"""strongSwan in a network namespace, and an endpoint of ours with real sockets in another one."""

from __future__ import annotations

import ctypes
import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

from ikev2.endpoint import Endpoint
from ikev2.events import Event
from ikev2.peer import Peer
from ikev2.udp import UdpSockets

CHARON = Path('/usr/lib/ipsec/charon')
OUR_ADDRESS = ip_address('10.77.0.1')
SWAN_ADDRESS = ip_address('10.77.0.2')
OUR_NAME = 'ours.example'
SWAN_NAME = 'swan.example'
_CLONE_NEWNET = 0x40000000

_E = TypeVar('_E')

_STRONGSWAN_CONF = """
charon {{
    load_modular = yes
    install_routes = no
    install_virtual_ip = no
    # A message above this goes in fragments (RFC 7383).
    fragment_size = {fragment_size}
    plugins {{ include /etc/strongswan.d/charon/*.conf }}
    filelog {{ log {{ path = {log}
                      default = 1
                      ike = 2
                      flush_line = yes }} }}
}}
"""


def call(*command: str) -> str:
    """Run a command; what it said is in the failure if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f'{" ".join(command)}: {done.stdout}{done.stderr}'
    return done.stdout


@contextmanager
def namespaces() -> Iterator[tuple[str, str]]:
    """Two network namespaces with a link: ours and strongSwan's."""
    ours, swan = f'gk-o-{os.getpid()}', f'gk-s-{os.getpid()}'
    try:
        for name in (ours, swan):
            call('ip', 'netns', 'add', name)
            call('ip', '-n', name, 'link', 'set', 'lo', 'up')
        call('ip', '-n', ours, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'eth0', 'netns', swan)
        for name, address in ((ours, OUR_ADDRESS), (swan, SWAN_ADDRESS)):
            call('ip', '-n', name, 'address', 'add', f'{address}/24', 'dev', 'eth0')
            call('ip', '-n', name, 'link', 'set', 'eth0', 'up')
        yield ours, swan
    finally:
        for name in (ours, swan):
            subprocess.run(['ip', 'netns', 'delete', name], check=False, capture_output=True)


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread in a network namespace: sockets that it makes stay there."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open('/proc/thread-self/ns/net') as home, open(f'/run/netns/{namespace}') as away:
        if libc.setns(away.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), 'setns')
        try:
            yield
        finally:
            if libc.setns(home.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), 'setns back')


class Swan:
    """A charon with one connection."""

    def __init__(
        self,
        namespace: str,
        folder: Path,
        connection: str,
        secrets: str = '',
        fragment_size: int = 1280,
    ) -> None:
        self.folder = folder
        self.log = folder / 'charon.log'
        configuration = folder / 'strongswan.conf'
        configuration.write_text(_STRONGSWAN_CONF.format(log=self.log, fragment_size=fragment_size))
        (folder / 'swanctl.conf').write_text(
            f'connections {{ ours {{ {connection} }} }}\nsecrets {{ {secrets} }}\n'
        )
        self._environment = {
            **os.environ,
            'STRONGSWAN_CONF': str(configuration),
            'SWANCTL_DIR': str(folder),
        }
        # A private /run, where its socket and pid file go: `ip netns exec` unshares mounts.
        shell = f'mount -t tmpfs tmpfs /run && echo ready && exec {CHARON}'
        self._process = subprocess.Popen(
            ['ip', 'netns', 'exec', namespace, 'sh', '-c', shell],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b'ready\n'
        self._wait_for_control()
        self.control('--load-all')

    def control(self, *arguments: str) -> str:
        """A swanctl command that must succeed."""
        done = self._swanctl(*arguments)
        assert done.returncode == 0, f'{done.stdout}{done.stderr}\n{self.log_text()}'
        return done.stdout

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A swanctl command that goes on while we answer."""
        return subprocess.Popen(
            self._command(*arguments),
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def log_text(self) -> str:
        """What charon has logged."""
        return self.log.read_text(errors='replace') if self.log.exists() else ''

    def established(self) -> bool:
        """It has an IKE SA that is up."""
        return 'ESTABLISHED' in self.control('--list-sas')

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _command(self, *arguments: str) -> list[str]:
        return ['nsenter', '-t', str(self._process.pid), '-m', '-n', 'swanctl', *arguments]

    def _swanctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(*arguments),
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def _wait_for_control(self) -> None:
        """charon tells nobody that it is ready: its control socket answers, or it has ended."""
        deadline = time.monotonic() + 60
        while self._swanctl('--stats').returncode:
            assert self._process.poll() is None, f'charon ended:\n{self.log_text()}'
            assert time.monotonic() < deadline, f'charon is not ready:\n{self.log_text()}'
            # The wait of an inotify without an inotify.
            select.select([], [], [], 0.05)


class Driver:
    """Our endpoint on real sockets, driven by the test's own thread."""

    def __init__(self, namespace: str, peer: Peer, has_mkts: bool = False) -> None:
        with inside(namespace):
            self.udp = UdpSockets()
        self.endpoint = Endpoint(random=os.urandom, has_mkts=lambda name: has_mkts)
        self.endpoint.set_peer(peer, self.now())
        self.events: list[Event] = []

    @staticmethod
    def now() -> float:
        """The clock."""
        return time.monotonic()

    def all(self, kind: type[_E]) -> list[_E]:
        """The events of one class so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def run_until(
        self, done: Callable[[], bool], seconds: float = 30.0, also: Sequence[int] = ()
    ) -> bool:
        """Serve the sockets and timers until `done` or the time is over; whether it was done.

        `done` is looked at when a datagram, a timer or one of the descriptors in `also` wakes us.
        """
        poll = select.poll()
        for descriptor in (*self.udp.filenos(), *also):
            poll.register(descriptor, select.POLLIN)
        end = self.now() + seconds
        while True:
            self._flush()
            if done():
                return True
            timer = self.endpoint.next_timer()
            wake = end if timer is None else min(end, timer)
            poll.poll(max(0.0, wake - self.now()) * 1000)
            for datagram in self.udp.receive():
                self.endpoint.receive_datagram(datagram, self.now())
            self.endpoint.handle_timer(self.now())
            if self.now() >= end:
                self._flush()
                return done()

    def run_until_exit(self, process: subprocess.Popen[bytes], seconds: float = 30.0) -> bool:
        """Serve until a process has ended; whether it has."""
        descriptor = os.pidfd_open(process.pid)
        try:
            return self.run_until(lambda: process.poll() is not None, seconds, [descriptor])
        finally:
            os.close(descriptor)

    def wait_for(self, kind: type[_E], seconds: float = 30.0) -> _E:
        """The next event of a class; a failure that tells the story if none comes."""
        before = len(self.all(kind))
        came = self.run_until(lambda: len(self.all(kind)) > before, seconds)
        assert came, f'no {kind.__name__}: {self.events}'
        return self.all(kind)[before]

    def close(self) -> None:
        """Delete what is up, and close the sockets."""
        self.endpoint.close(self.now())
        self._flush()
        self.udp.close()

    def _flush(self) -> None:
        while (event := self.endpoint.next_event()) is not None:
            self.events.append(event)
        for datagram in self.endpoint.datagrams_to_send():
            self.udp.send(datagram)
