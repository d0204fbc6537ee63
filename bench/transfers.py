"""Bulk transfers between two namespaces: throughput, and the cost of the packet processes.

The same transfer without protection, through the packet processes, and where the kernel has it
under its own TCP-AO. Each end is a separate program (`bench.end`). Needs root and netfilter queues.
In User Mode Linux (`python -m lab.tcpao_kernel run -- python -m bench transfers --mib 16`) the
kernel's own TCP-AO is measured too; only ratios mean anything there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from lab.tcpao_kernel import has_tcp_ao

# Seconds for one transfer.
PATIENCE = 600.0


@dataclass(frozen=True)
class Transfer:
    """One transfer; CPU in seconds."""

    mode: str
    algorithm: str
    version: int
    mtu: int
    octets: int
    seconds: float
    ends_cpu: float
    """CPU of the two programs that send and read, their system calls included."""
    sender: dict[str, float] | None
    """The sender's packet process: its CPU, and the segments that it has signed and verified."""
    receiver: dict[str, float] | None

    @property
    def rate(self) -> float:
        """Return megabits per second."""
        return self.octets * 8 / self.seconds / 1e6


@contextmanager
def namespaces(mtu: int) -> Iterator[tuple[str, str]]:
    """Make two namespaces with a link between them: 10.9.0.1 and .2, fd09::1 and ::2."""
    names = (f'gkbench-{os.getpid()}-a', f'gkbench-{os.getpid()}-b')
    try:
        for name in names:
            _ip('netns', 'add', name)
        _ip(
            *('link', 'add', 'wire', 'mtu', str(mtu), 'netns', names[0], 'type', 'veth'),
            *('peer', 'name', 'wire', 'mtu', str(mtu), 'netns', names[1]),
        )
        for number, name in enumerate(names, 1):
            _ip('-n', name, 'addr', 'add', f'10.9.0.{number}/24', 'dev', 'wire')
            _ip('-n', name, 'addr', 'add', f'fd09::{number}/64', 'dev', 'wire', 'nodad')
            _ip('-n', name, 'link', 'set', 'lo', 'up')
            _ip('-n', name, 'link', 'set', 'wire', 'up')
        yield names
    finally:
        for name in names:
            subprocess.run(['ip', 'netns', 'del', name], check=False, capture_output=True)


def transfer(
    mode: str,
    octets: int,
    *,
    algorithm: str = 'hmac-sha-1-96',
    version: int = 4,
    mtu: int = 1500,
) -> Transfer:
    """Measure one transfer from the client to the server. Raises RuntimeError if an end fails."""
    with namespaces(mtu) as (near, far):
        arguments = [mode, algorithm, str(version), str(octets)]
        with _end(far, 'server', arguments) as server:
            ready = _line(server)
            assert ready == {'ready': True}, ready
            with _end(near, 'client', arguments) as client:
                sent, received = _line(client), _line(server)
    return Transfer(
        mode=mode,
        algorithm=algorithm if mode != 'plain' else '',
        version=version,
        mtu=mtu,
        octets=octets,
        seconds=received['seconds'],
        ends_cpu=sent['cpu'] + received['cpu'],
        sender=sent['process'],
        receiver=received['process'],
    )


@contextmanager
def _end(namespace: str, role: str, arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    command = ['ip', 'netns', 'exec', namespace, sys.executable, '-m', 'bench.end', role]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
            if process.wait(PATIENCE):
                raise RuntimeError(f'the {role} ended with status {process.returncode}')
        finally:
            process.kill()


def _line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError('an end of the transfer said nothing')
    said: dict[str, Any] = json.loads(line)
    return said


def _ip(*arguments: str) -> None:
    subprocess.run(['ip', *arguments], check=True)


# --- the command line ---------------------------------------------------------------------------


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument('--mib', type=int, default=64, help='size of a transfer (default 64)')
    parser.add_argument('--algorithm', default='hmac-sha-1-96')
    parser.add_argument('--mtu', type=int, default=1500)
    parser.add_argument('--rounds', type=int, default=3, help='the best one counts')


def run(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure every mode over IPv4 and IPv6, and print."""
    if os.geteuid() != 0:
        raise SystemExit('the transfers need root')
    found = []
    for version in (4, 6):
        for mode in ('plain', 'userspace', *(['kernel'] if has_tcp_ao() else [])):
            # All modes within minutes of each other; of each, the run with the least disturbance
            # counts.
            rounds = [
                transfer(
                    mode,
                    arguments.mib << 20,
                    algorithm=arguments.algorithm,
                    version=version,
                    mtu=arguments.mtu,
                )
                for _ in range(arguments.rounds)
            ]
            found.append(min(rounds, key=lambda one: one.seconds))
    _print(found)
    return [asdict(one) | {'rate': one.rate} for one in found]


def _print(transfers: list[Transfer]) -> None:
    print(
        'Bulk transfers; CPU of each packet process for a full-size segment, kernel included, with'
    )
    print('the acknowledgments of the other direction charged to it, in microseconds')
    print(
        f'{"mode":10} {"IP":>3} {"MiB":>4} {"Mbit/s":>8} {"of plain":>9} {"segments":>9} '
        f'{"ACKs":>7} {"out":>6} {"in":>6}'
    )
    plain = {one.version: one.rate for one in transfers if one.mode == 'plain'}
    for one in transfers:
        line = (
            f'{one.mode:10} {one.version:3} {one.octets >> 20:4} {one.rate:8.0f} '
            f'{one.rate / plain[one.version]:9.3f}'
        )
        if one.sender is not None and one.receiver is not None:
            data, acks = one.receiver['good'], one.sender['good']
            line += (
                f' {data:9} {acks:7} {one.sender["cpu"] / data * 1e6:6.1f} '
                f'{one.receiver["cpu"] / data * 1e6:6.1f}'
            )
        print(line)
