"""The command line of `gatekeeper probe`, with the sockets and the printing of a probe.

The probe itself is in `probe.py`, its report in `transcript.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import IPv6Address, ip_address

from gatekeeper.clock import boottime
from gatekeeper.reporting.ike_key_log import IkeKeyLog
from gatekeeper.tools.errors import ToolError
from gatekeeper.tools.probe.options import Wanted, add_options, wanted
from gatekeeper.tools.probe.probe import Limited, Probe
from gatekeeper.tools.probe.transcript import Result, Step
from ikev2.errors import LocalError
from ikev2.events import Selector
from ikev2.udp import UdpError, UdpSockets
from tcpao.mkt import IPAddress

PROVEN, REFUSED, UNTRIED = 0, 1, 2
"""Exit status."""


def add_verb(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `probe` to the command line."""
    probe = verbs.add_parser(
        'probe',
        help='try IKE with a peer, and say step by step what happens',
        description='Try IKE with a peer and say step by step what is offered, chosen and proven, '
        'and where and why it fails. With --session a TCP-AO key is negotiated too, and deleted '
        'again. Nothing is installed here, and what a daemon with the same identity has with the '
        'peer is left alone. Exit status 0: all is proven; 1: the peer refused, or it failed; '
        '2: it could not be tried.',
    )
    add_options(probe)
    probe.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run a probe; return the exit status. Raises ToolError if it can't be tried."""
    asked = wanted(arguments, time.time())
    with ExitStack() as held:
        local = _local_address(asked)
        key_log = None
        if asked.ike_key_log is not None:
            key_log = _key_log(asked.ike_key_log)
            held.callback(key_log.close)
        request = None
        if asked.request is not None:
            reserved = held.enter_context(_reserve(local, asked.source_port, asked.interface))
            request = asked.request(Selector(local, reserved))
        udp = _udp(asked, local)
        held.callback(udp.close)
        if asked.interface is not None and isinstance(asked.remote, IPv6Address):
            udp.use_zones({asked.remote: asked.interface})
        try:
            peer = asked.peer(local)
        except LocalError as error:
            raise ToolError(str(error)) from None
        probe = Probe(
            peer,
            request,
            Limited(asked.timeout, udp.ports),
            policy=asked.policy_name,
            random=os.urandom,
            wall_clock=time.time,
            key_log=key_log.write if key_log is not None else None,
        )
        show = _show_json if asked.json else _show_text
        interrupted = _drive(probe, udp, show)
        status = UNTRIED if interrupted else PROVEN if probe.proven else REFUSED
        _conclude(asked, status)
    return status


# --- resources of this host ----------------------------------------------------------------


def _family(address: IPAddress) -> socket.AddressFamily:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _local_address(asked: Wanted) -> IPAddress:
    """Return the given address, if this host has it, or the one of the route. Raises ToolError."""
    with socket.socket(_family(asked.remote), socket.SOCK_DGRAM) as one:
        zone: tuple[int, ...] = ()
        try:
            if asked.interface is not None:
                zone = (0, socket.if_nametoindex(asked.interface))
            if asked.local is not None:
                one.bind((str(asked.local), 0, *zone))
            one.connect((str(asked.remote), asked.ike_port, *zone))
        except OSError as error:
            source = f' from {asked.local}' if asked.local is not None else ''
            raise ToolError(
                f'cannot send to {asked.remote}{source}: {error.strerror}; look at the addresses '
                f'and routes of this host (and network namespace)'
            ) from None
        return ip_address(one.getsockname()[0].partition('%')[0])


def _key_log(path: str) -> IkeKeyLog:
    try:
        key_log = IkeKeyLog(path)
    except FileExistsError:
        raise ToolError(f'{path} exists: a key log is always a new file') from None
    except OSError as error:
        raise ToolError(f'cannot write {path}: {error.strerror}') from None
    print(
        f'gatekeeper probe: THE KEYS OF THIS IKE SA ARE BEING WRITTEN TO {path}: its reader '
        f'can read a capture of it',
        file=sys.stderr,
        flush=True,
    )
    return key_log


@contextmanager
def _reserve(local: IPAddress, port: int, interface: str | None = None) -> Iterator[int]:
    """Reserve a TCP port that no connection of this host uses, until the probe ends.

    A request for the socket pair of a running session would make the peer end that session.
    """
    with socket.socket(_family(local), socket.SOCK_STREAM) as one:
        try:
            zone = (0, socket.if_nametoindex(interface)) if interface is not None else ()
            one.bind((str(local), port, *zone))
        except OSError as error:
            raise ToolError(
                f'TCP port {port} of {local} cannot be reserved: {error.strerror}; if a session '
                f'uses it, asking for a key for it would end that session'
            ) from None
        yield one.getsockname()[1]


def _udp(asked: Wanted, local: IPAddress) -> UdpSockets:
    try:
        return UdpSockets(asked.local_ports, (_family(local),))
    except UdpError as error:
        raise ToolError(f'{error} (--local-ports; without it free ones are taken)') from None


# --- the loop --------------------------------------------------------------------------------


@contextmanager
def _interrupts() -> Iterator[int]:
    """Make a descriptor that is readable after a first interrupt; a second one ends us at once."""
    wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: object) -> None:
        os.eventfd_write(wake, 1)
        for one, handler in before.items():
            signal.signal(one, handler)

    try:
        for number in before:
            signal.signal(number, handle)
        yield wake
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(wake)


def _drive(probe: Probe, udp: UdpSockets, show: Callable[[Step], None]) -> bool:
    """Run until the probe is done; return True if it was interrupted."""
    interrupted = False
    with _interrupts() as wake:
        poll = select.poll()
        for descriptor in (*udp.filenos(), wake):
            poll.register(descriptor, select.POLLIN)
        probe.start(boottime())
        while True:
            _flush(probe, udp, show)
            if probe.done:
                return interrupted
            timer = probe.next_timer()
            poll.poll(None if timer is None else max(0.0, timer - boottime()) * 1000 + 1)
            with suppress(BlockingIOError):
                os.eventfd_read(wake)
                # Delete everything at the peer, then end.
                interrupted = True
                probe.stop(boottime())
            for datagram in udp.receive():
                probe.receive_datagram(datagram, boottime())
            probe.handle_timer(boottime())


def _flush(probe: Probe, udp: UdpSockets, show: Callable[[Step], None]) -> None:
    """Send datagrams and show new steps."""
    for datagram in probe.datagrams_to_send():
        udp.send(datagram)
    for failure in udp.take_failures():
        if failure.from_icmp:
            probe.unreachable(failure.text)
        else:
            probe.unsendable(failure.text)
    for step in probe.take_steps():
        show(step)


# --- printing --------------------------------------------------------------------------------


def _show_text(step: Step) -> None:
    print(f'{step.exchange:<15} {step.result:<8} {step.text}', flush=True)
    if step.advice:
        print(f'{"":<15} {"try":<8} {step.advice}', flush=True)


def _show_json(step: Step) -> None:
    row = {
        'time': time.time(),
        'exchange': step.exchange,
        'result': step.result,
        'text': step.text,
        **({'advice': step.advice} if step.advice else {}),
        **step.details,
    }
    print(json.dumps(row), flush=True)


def _conclude(asked: Wanted, status: int) -> None:
    what = 'IKE and a TCP-AO key' if asked.request is not None else 'IKE'
    text = {
        PROVEN: f'{what}: all is proven',
        REFUSED: f'{what}: it failed',
        UNTRIED: f'{what}: interrupted',
    }[status]
    result = Result.OK if status == PROVEN else Result.FAILED
    if asked.json:
        _show_json(Step('probe', result, text, details={'status': status}))
    else:
        print(text, flush=True)
