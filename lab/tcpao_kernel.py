"""A command under a kernel with TCP-AO: `python -m lab.tcpao_kernel run -- COMMAND...`.

The kernel is the host's own where it has TCP-AO, else a User Mode Linux. Used by the Makefile, the
tests and the demo alike. Inside the guest, commands run directly.
"""

from __future__ import annotations

import argparse
import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable

from lab.uml.__main__ import add_guest_options, guest_from
from lab.uml.boot import TIMED_OUT, Guest
from lab.uml.boot import run as run_in_guest
from lab.uml.build import BuildError, ensure_kernel

# include/uapi/linux/tcp.h
TCP_AO_INFO = 40
TCP_AO_INFO_SIZE = 48


def has_tcp_ao() -> bool:
    """Return True if the kernel of this process has TCP-AO (Linux 6.7, CONFIG_TCP_AO)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.setsockopt(socket.IPPROTO_TCP, TCP_AO_INFO, bytes(TCP_AO_INFO_SIZE))
        except OSError as error:
            return error.errno != errno.ENOPROTOOPT
    return True


def run(
    command: list[str],
    guest: Guest,
    *,
    force_guest: bool = False,
    output: Callable[[bytes], None] | None = None,
) -> int:
    """Run a command under a kernel with TCP-AO, and return its exit status. Raises BuildError.

    With `output`, both outputs of the command go there as they come, in pieces of any size;
    otherwise to this process's own.
    """
    if force_guest or not has_tcp_ao():
        return run_in_guest(command, guest, output) if output else run_in_guest(command, guest)
    if guest.time_travel:
        raise BuildError('time travel needs the guest: use --force-guest')
    return run_here(command, guest, output)


def run_here(command: list[str], guest: Guest, output: Callable[[bytes], None] | None) -> int:
    """Run a command on this host, within `guest`'s time and environment; otherwise like `run`."""
    environment = os.environ | dict(guest.environment)
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE if output else None,
        stderr=subprocess.STDOUT if output else None,
    )
    late = threading.Event()

    def give_up() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(guest.timeout, give_up) if guest.timeout else None
    if timer is not None:
        timer.start()
    try:
        while output and process.stdout and (chunk := os.read(process.stdout.fileno(), 65536)):
            output(chunk)
        process.wait()
    finally:
        if timer is not None:
            timer.cancel()
        process.kill()
        process.wait()
    if late.is_set():
        print(f'{command[0]} did not end within {guest.timeout:g} s', file=sys.stderr)
        return TIMED_OUT
    return process.returncode


def main() -> int:
    """Run the command line; return the command's exit status."""
    parser = argparse.ArgumentParser(prog='python -m lab.tcpao_kernel', description=__doc__)
    verbs = parser.add_subparsers(dest='verb', required=True)
    verbs.add_parser('probe', help='say whether this kernel has TCP-AO (exit status 0 or 1)')
    verbs.add_parser('prepare', help='build the guest unless it is not needed or cached')
    runner = verbs.add_parser('run', help='run a command')
    runner.add_argument(
        '--force-guest', action='store_true', help="the guest, whatever the host's kernel has"
    )
    add_guest_options(runner)
    arguments = parser.parse_args()
    if arguments.verb == 'probe':
        print('TCP-AO' if has_tcp_ao() else 'no TCP-AO')
        return 0 if has_tcp_ao() else 1
    try:
        if arguments.verb == 'prepare':
            if not has_tcp_ao():
                ensure_kernel()
            return 0
        return run(arguments.command, guest_from(arguments), force_guest=arguments.force_guest)
    except BuildError as error:
        print(f'kernel: {error}', file=sys.stderr)
        return 1


if __name__ == '__main__':
    sys.exit(main())
