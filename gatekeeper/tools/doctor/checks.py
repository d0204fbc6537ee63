"""The judgement of a host from facts alone: no file, socket or clock is used here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

IKE_PORTS: Final = (500, 4500)
BGP_PORT: Final = 179
MIN_IPV6_MTU: Final = 1280
"""Octets: RFC 8200, 5. The IKE endpoint makes no larger datagrams where it may fragment."""

CAPABILITIES: Final = {
    'CAP_NET_ADMIN': (12, 'firewall rules and the netfilter queue of user-space TCP-AO'),
    'CAP_NET_BIND_SERVICE': (10, 'the ports 179, 500 and 4500'),
}
"""Bit number (include/uapi/linux/capability.h), and the need for the capability."""


class Verdict(StrEnum):
    """The effect of a finding on protected sessions."""

    GOOD = 'ok'
    NOTE = 'note'
    """A remark; sessions come up."""
    WARNING = 'warning'
    """Sessions come up, and may not stay up or may be less secure than possible."""
    BAD = 'bad'
    """No protected session comes up until this is corrected."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the result."""

    subject: str
    verdict: Verdict
    text: str
    remedy: str = ''
    """The advice; empty if there is nothing to do."""


@dataclass(frozen=True, slots=True)
class PortUser:
    """A socket that is bound to a port."""

    protocol: str
    """`udp` or `tcp`."""
    port: int
    program: str
    """Name and process ID, or why they are unknown."""


@dataclass(frozen=True, slots=True)
class Host:
    """Facts about a host, found by `host.look`."""

    kernel: str
    """Release of the running kernel."""
    no_kernel_tcp_ao: str | None
    """The reason why the kernel's TCP-AO is unusable; None if it works."""
    no_packet_process: str | None
    """The reason why user-space TCP-AO is unusable; None if it works."""
    capabilities: int
    """The effective set, as a bit mask."""
    ports: Sequence[PortUser] = ()
    clock_synchronized: bool | None = None
    """None if the kernel did not tell."""
    syncookies: int | None = None
    """`net.ipv4.tcp_syncookies`; None if it can't be read."""
    mtus: Sequence[tuple[str, int]] = ()
    """Interfaces that are up, and their MTU in octets."""
    foreign_accepts: Sequence[str] = field(default_factory=tuple)
    """Rules of other programs that accept packets before our rules see them, printed by
    iptables."""
    rules_unknown: str | None = None
    """The reason why rules of other programs could not be read; None if they could."""
    closed_to_nobody: str | None = None
    """A folder or file of this Python that user `nobody` may not use; None if there is none, or if
    this process may not become another user."""


def judge(host: Host) -> list[Finding]:
    """Return the findings, in the order in which an operator needs them."""
    return [
        *_backends(host),
        *_privileges(host),
        *_python(host.closed_to_nobody),
        *_ports(host.ports),
        *_rules(host),
        *_clock(host),
        *_syncookies(host),
        *_mtus(host.mtus),
    ]


def is_able(findings: Iterable[Finding]) -> bool:
    """Return True if protected sessions can come up."""
    return all(finding.verdict is not Verdict.BAD for finding in findings)


def _backends(host: Host) -> Iterable[Finding]:
    kernel, packets = host.no_kernel_tcp_ao, host.no_packet_process
    none = Verdict.BAD if kernel and packets else Verdict.NOTE
    if kernel is None:
        yield Finding('kernel TCP-AO', Verdict.GOOD, f'Linux {host.kernel} has it')
    else:
        yield Finding(
            'kernel TCP-AO',
            none,
            f'Linux {host.kernel}: {kernel}',
            'Linux 6.7 or later with CONFIG_TCP_AO, or tcp-ao-backend userspace',
        )
    if packets is None:
        yield Finding('user-space TCP-AO', Verdict.GOOD, 'netfilter queue and rules work')
    else:
        yield Finding(
            'user-space TCP-AO',
            none,
            packets,
            'run as root, or with CAP_NET_ADMIN; install nftables or iptables',
        )


def _privileges(host: Host) -> Iterable[Finding]:
    missing = [
        (name, use) for name, (bit, use) in CAPABILITIES.items() if not host.capabilities >> bit & 1
    ]
    if not missing:
        yield Finding('privileges', Verdict.GOOD, ', '.join(CAPABILITIES))
    for name, use in missing:
        yield Finding(
            'privileges',
            Verdict.WARNING,
            f'this process lacks {name}, needed for {use}',
            'start as root, or give it in the unit: AmbientCapabilities=' + name,
        )


def _python(closed: str | None) -> Iterable[Finding]:
    if closed is not None:
        yield Finding(
            'python',
            Verdict.WARNING,
            f'user nobody may not use {closed}: a router that becomes nobody cannot start its '
            f'helper for the command line, and stops every peer',
            'install with a Python outside: /usr/bin/python3 -m venv /opt/gatekeeper',
        )


def _ports(users: Sequence[PortUser]) -> Iterable[Finding]:
    for protocol, port, purpose in (
        *(('udp', port, 'IKE') for port in IKE_PORTS),
        ('tcp', BGP_PORT, 'BGP'),
    ):
        taken = [user for user in users if (user.protocol, user.port) == (protocol, port)]
        subject = f'{protocol} {port}'
        if not taken:
            yield Finding(subject, Verdict.GOOD, f'free, for {purpose}')
            continue
        programs = ', '.join(sorted({user.program for user in taken}))
        remedy = 'that is fine if it is the router itself'
        if purpose == 'IKE':
            remedy += '; beside another IKE daemon, give the router another IKE port'
        yield Finding(subject, Verdict.NOTE, f'in use by {programs}', remedy)


def _rules(host: Host) -> Iterable[Finding]:
    if host.rules_unknown is not None:
        yield Finding('foreign rules', Verdict.NOTE, f'not read: {host.rules_unknown}')
    elif not host.foreign_accepts:
        yield Finding('foreign rules', Verdict.GOOD, 'none accepts packets before ours would')
    for rule in host.foreign_accepts:
        yield Finding(
            'foreign rules',
            Verdict.WARNING,
            f'accepts before our rules see the packet: {rule}',
            'leave BGP peers out of it, or move it to the table filter',
        )


def _clock(host: Host) -> Iterable[Finding]:
    if host.clock_synchronized is None:
        yield Finding('clock', Verdict.NOTE, 'the kernel does not say if it is synchronized')
    elif host.clock_synchronized:
        yield Finding('clock', Verdict.GOOD, 'synchronized')
    else:
        yield Finding(
            'clock',
            Verdict.WARNING,
            'not synchronized: certificates and keychains go by it',
            'run a time service (chrony, systemd-timesyncd)',
        )


def _syncookies(host: Host) -> Iterable[Finding]:
    if host.syncookies == 2:
        yield Finding(
            'SYN cookies',
            Verdict.WARNING,
            'always on: connections that are made from a cookie are refused',
            'sysctl net.ipv4.tcp_syncookies=1',
        )


def _mtus(mtus: Sequence[tuple[str, int]]) -> Iterable[Finding]:
    for name, octets in mtus:
        if octets < MIN_IPV6_MTU:
            yield Finding(
                f'MTU of {name}',
                Verdict.WARNING,
                f'{octets} octets, less than {MIN_IPV6_MTU}: large IKE messages may not pass',
                'raise it, or use raw keys in place of certificates',
            )
