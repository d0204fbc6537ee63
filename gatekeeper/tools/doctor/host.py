"""The facts about this host: kernel, queue, privileges, ports, clock, rules of others.

Leaves no change.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from gatekeeper.adapter.helper_access import closed_to
from gatekeeper.tools.doctor.checks import BGP_PORT, IKE_PORTS, Host, PortUser
from tcpao.kernel.backend import why_no_kernel
from tcpao.userspace.process.startup import why_unable

PROC: Final = Path('/proc')
_LISTEN: Final = '0A'
# include/uapi/linux/timex.h: struct timex has 208 octets on 64-bit machines, fewer on others.
_TIMEX_OCTETS: Final = 256
_TIME_ERROR: Final = 5
_ACCEPT: Final = re.compile(r'-A (INPUT|OUTPUT) .*-j ACCEPT')
_OURS: Final = 'exabgp-gatekeeper'
_PATIENCE: Final = 10.0


def look() -> Host:
    """Return the facts. Unreadable facts are marked as such; nothing is raised for them."""
    accepts, unknown = foreign_accepts()
    return Host(
        kernel=os.uname().release,
        no_kernel_tcp_ao=why_no_kernel(),
        no_packet_process=why_unable(),
        capabilities=capabilities((PROC / 'self/status').read_text()),
        ports=tuple(port_users()),
        clock_synchronized=clock_synchronized(),
        syncookies=_number(PROC / 'sys/net/ipv4/tcp_syncookies'),
        mtus=tuple(mtus(Path('/sys/class/net'))),
        foreign_accepts=accepts,
        rules_unknown=unknown,
        closed_to_nobody=closed_to_nobody(),
    )


def closed_to_nobody() -> str | None:
    """Return what of this Python user `nobody` may not use, if this process is root's."""
    try:
        nobody = pwd.getpwnam('nobody')
    except KeyError:
        return None
    if os.geteuid() != 0:
        return None
    files = [Path(one) for one in (sys.executable, os.__file__, __file__)]
    closed = closed_to(nobody.pw_uid, {nobody.pw_gid, *os.getgroups()}, files)
    return None if closed is None else str(closed)


def capabilities(status: str) -> int:
    """Return the effective capabilities in the text of `/proc/PID/status`, as a bit mask."""
    found = re.search(r'^CapEff:\s*([0-9a-f]+)$', status, re.MULTILINE)
    return int(found[1], 16) if found is not None else 0


def sockets_in(table: str, protocol: str) -> Iterator[tuple[int, str]]:
    """Yield port and inode of each bound UDP or listening TCP socket in a table of `/proc/net`.

    `table` is the text of the file (proc_net_tcp(5)).
    """
    for line in table.splitlines()[1:]:
        words = line.split()
        port, state, inode = int(words[1].rpartition(':')[2], 16), words[3], words[9]
        if protocol == 'udp' or state == _LISTEN:
            yield port, inode


def port_users() -> Iterator[PortUser]:
    """Yield the processes that have a port that IKE or BGP needs, in this network namespace."""
    wanted = {'udp': set(IKE_PORTS), 'tcp': {BGP_PORT}}
    held = [
        (protocol, port, inode)
        for protocol, ports in wanted.items()
        for version in ('', '6')
        for port, inode in _table(f'{protocol}{version}', protocol)
        if port in ports
    ]
    programs = _programs({inode for _, _, inode in held}) if held else {}
    for protocol, port, inode in held:
        unknown = 'a process that this user may not see'
        yield PortUser(protocol, port, programs.get(inode, unknown))


def _table(name: str, protocol: str) -> Iterator[tuple[int, str]]:
    path = PROC / 'self/net' / name
    return sockets_in(path.read_text(), protocol) if path.exists() else iter(())


def _programs(inodes: set[str]) -> dict[str, str]:
    """Return name and process ID by inode. Processes that end meanwhile are skipped."""
    found: dict[str, str] = {}
    for folder in PROC.iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            links = [os.readlink(link) for link in (folder / 'fd').iterdir()]
            name = (folder / 'comm').read_text().strip()
        except OSError:
            continue
        for link in links:
            inode = link.removeprefix('socket:[').removesuffix(']')
            if inode in inodes:
                found.setdefault(inode, f'{name} (process {folder.name})')
    return found


def clock_synchronized() -> bool | None:
    """Return adjtimex(2)'s answer about the clock; None if it fails."""
    asked = ctypes.create_string_buffer(_TIMEX_OCTETS)
    state = ctypes.CDLL(None).adjtimex(asked)
    return None if state < 0 else state != _TIME_ERROR


def mtus(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield name and MTU of each interface that is up."""
    for interface in sorted(folder.iterdir()):
        octets = _number(interface / 'mtu')
        flags = interface / 'flags'
        if octets is not None and flags.exists() and int(flags.read_text(), 16) & 1:
            yield interface.name, octets


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def foreign_accepts() -> tuple[Sequence[str], str | None]:
    """Return rules of others that accept before ours in iptables' table `mangle`.

    Also the reason why they could not be read, if so. In nftables a verdict `accept` ends its own
    base chain only, so it hides nothing from ours.
    """
    found: list[str] = []
    for command in ('iptables', 'ip6tables'):
        if shutil.which(command) is None:
            continue
        try:
            done = subprocess.run(
                [command, '-w', '-t', 'mangle', '-S'],
                capture_output=True,
                text=True,
                timeout=_PATIENCE,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return (), str(error)
        if done.returncode:
            return (), done.stderr.strip() or f'{command} failed'
        found += [f'{command} -t mangle {rule}' for rule in accepts_before_ours(done.stdout)]
    return found, None


def accepts_before_ours(rules: str) -> list[str]:
    """Return the rules in `iptables -S` format that accept before a jump to one of our chains."""
    found: list[str] = []
    passed: set[str] = set()
    for line in rules.splitlines():
        chain = line.split()[1] if line.startswith('-A ') else ''
        if _OURS in line:
            passed.add(chain)
        elif chain not in passed and _ACCEPT.match(line):
            found.append(line)
    return found
