"""Two network namespaces with a link, ours and the other implementation's, and its faults."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import count

OUR_ADDRESS = ip_address('10.77.0.1')
PEER_ADDRESS = ip_address('10.77.0.2')
OUR_ADDRESS_6 = ip_address('fd77::1')
PEER_ADDRESS_6 = ip_address('fd77::2')
OUR_NAME = 'ours.example'
PEER_NAME = 'theirs.example'
_CLONE_NEWNET = 0x40000000
_numbers = count(1)


def call(*command: str) -> str:
    """Run a command; what it said is in the failure if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f'{" ".join(command)}: {done.stdout}{done.stderr}'
    return done.stdout


@dataclass(frozen=True)
class Wire:
    """The names of the two namespaces."""

    ours: str
    theirs: str

    @contextmanager
    def lossy(self) -> Iterator[None]:
        """Each direction loses two of ten datagrams, and must have lost some.

        Counted, not random: the same run each time. Every fifth would be the same fragment of a
        message of five, however often that is sent again.
        """
        with ExitStack() as stack:
            for name in (self.ours, self.theirs):
                for every, packet in (('10', '0'), ('9', '2')):
                    which = (*_STATISTIC, every, '--packet', packet)
                    stack.enter_context(_dropping(name, *which))
            yield

    def cut(self) -> AbstractContextManager[None]:
        """Nothing of ours arrives; something must have been sent."""
        return _dropping(self.theirs)


_STATISTIC = ('-m', 'statistic', '--mode', 'nth', '--every')


@contextmanager
def _dropping(namespace: str, *which: str) -> Iterator[None]:
    table = ('ip', 'netns', 'exec', namespace, 'iptables', '-t', 'raw')
    rule = ('PREROUTING', '-p', 'udp', *which, '-j', 'DROP')
    call(*table, '-A', *rule)
    try:
        yield
        counted = call(*table, '-L', 'PREROUTING', '-nvx').splitlines()[2:]
        assert sum(int(line.split()[0]) for line in counted), f'nothing was lost: {counted}'
    finally:
        call(*table, '-D', *rule)


@contextmanager
def wired() -> Iterator[Wire]:
    """A wire while it lasts."""
    name = f'{os.getpid()}-{next(_numbers)}'
    wire = Wire(f'gk-o-{name}', f'gk-t-{name}')
    ends = (
        (wire.ours, OUR_ADDRESS, OUR_ADDRESS_6),
        (wire.theirs, PEER_ADDRESS, PEER_ADDRESS_6),
    )
    try:
        for name, *_ in ends:
            call('ip', 'netns', 'add', name)
            call('ip', '-n', name, 'link', 'set', 'lo', 'up')
        link = ('type', 'veth', 'peer', 'eth0', 'netns', wire.theirs)
        call('ip', '-n', wire.ours, 'link', 'add', 'eth0', *link)
        for name, address, address_6 in ends:
            add = ('ip', '-n', name, 'address', 'add')
            call(*add, f'{address}/24', 'dev', 'eth0')
            call(*add, f'{address_6}/64', 'dev', 'eth0', 'nodad')
            call('ip', '-n', name, 'link', 'set', 'eth0', 'up')
        yield wire
    finally:
        for name, *_ in ends:
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
