"""Rules by the iptables command, legacy or on nftables' compatibility layer.

In the table `mangle`, first in the chains INPUT and OUTPUT: only what this host itself sends or
gets, and before a firewall's table `filter` looks at it. ICMP errors that quote a protected
connection are found by the match `u32`, where the kernel has it.

`iptables` may be either variant; which of them says who tells that rules were removed.
"""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from ipaddress import ip_network
from typing import Final

from tcpao.mkt import IPNetwork
from tcpao.userspace.lock_watch import LOCK_FILE, LockWatch
from tcpao.userspace.rules import (
    NAME,
    Kind,
    RulesError,
    comment,
    comment_of,
    queue_of,
    selector_of,
)
from tcpao.userspace.selectors import Selector
from tcpao.userspace.watch import NftablesWatch, Watch

_PREFIX: Final = {4: 'iptables', 6: 'ip6tables'}
_PROBE_CHAIN: Final = f'{NAME}-probe'
_PATIENCE: Final = 30.0
_TABLE: Final = 'mangle'

# Daemons often have no /usr/sbin in their path.
_ENVIRONMENT: Final = {
    'PATH': f'{os.environ.get("PATH", "")}:/usr/sbin:/sbin',
    'LC_ALL': 'C',
    'XTABLES_LOCKFILE': LOCK_FILE,
}


class IptablesRules:
    """The rules of one queue, made by one variant of the command."""

    def __init__(self, kind: Kind, queue: int) -> None:
        """Raises RulesError if this variant can't make a rule for the queue, or if nobody would
        tell that it was removed."""
        self.kind = kind
        self.without: tuple[str, ...] = ()
        self._queue = queue
        self._made: set[Selector] = set()
        self._versions = {4}
        self._errors = True
        self.watch = _watch(kind)
        try:
            self._ask_the_kernel()
            if not self.watch.removals():
                raise RulesError(
                    f'{kind} changes rules and {self.watch} says nothing, so nobody would know '
                    f'if a firewall removed ours'
                )
        except (RulesError, OSError) as error:
            self.watch.close()
            raise RulesError(str(error)) from None

    def change(self, add: Iterable[Selector], remove: Iterable[Selector]) -> None:
        """See Rules."""
        add, remove = set(add), set(remove)
        for selector in add:
            if selector.remote.version not in self._versions:
                raise RulesError(f'no rule for {selector.remote}: {"; ".join(self.without)}')
        for version in sorted({s.remote.version for s in add | remove}):
            lines = [
                f'-I {rule}'
                for selector in add
                if selector.remote.version == version
                for rule in self._rules(selector)
            ]
            lines += [
                f'-D {rule}'
                for selector in remove
                if selector.remote.version == version
                for rule in self._rules(selector)
            ]
            # One transaction for each family.
            _restore(self.kind, version, lines)
        self._made = (self._made | add) - remove

    def complete(self) -> bool:
        """See Rules."""
        return all(
            Counter(map(_name, self._there(version))) == Counter(map(_name, self._wanted(version)))
            for version in {selector.remote.version for selector in self._made}
        )

    def restore(self) -> None:
        """See Rules."""
        for version in sorted(self._versions):
            lines = [f'-D {rule}' for rule in self._there(version)]
            lines += [f'-I {rule}' for rule in self._wanted(version)]
            _restore(self.kind, version, lines)

    def remove_all(self) -> None:
        """See Rules."""
        self.change((), self._made)

    def close(self) -> None:
        """See Rules."""
        self.watch.close()

    def _wanted(self, version: int) -> list[str]:
        selectors = (selector for selector in self._made if selector.remote.version == version)
        return [rule for selector in selectors for rule in self._rules(selector)]

    def _there(self, version: int) -> list[str]:
        return [rule for queue, rule in _ours(self.kind, version) if queue == self._queue]

    def _ask_the_kernel(self) -> None:
        self._probe(4, '-p tcp')
        try:
            self._probe(6, '-p tcp')
            self._versions.add(6)
        except RulesError as error:
            self.without += (f'IPv6 ({error})',)
        try:
            self._probe(4, '-p icmp -m u32 --u32 "0>>22&0x3C@0>>24=3"')
        except RulesError as error:
            self._errors = False
            self.without += (f'ICMP errors (RFC 5925 7.8; match u32: {error})',)

    def _target(self, text: str) -> str:
        return f'-m comment --comment "{text}" -j NFQUEUE --queue-num {self._queue}'

    def _probe(self, version: int, match: str) -> None:
        try:
            _restore(
                self.kind,
                version,
                [f'-A {_PROBE_CHAIN} {match} {self._target(comment(self._queue))}'],
                chain=_PROBE_CHAIN,
            )
        finally:
            _restore(self.kind, version, [f'-X {_PROBE_CHAIN}'], chain=_PROBE_CHAIN)

    def _rules(self, selector: Selector) -> Iterator[str]:
        remote = f'{selector.remote}'
        target = self._target(comment_of(self._queue, selector))
        ports = (
            ('--dport', '--sport'),
            ('--sport', '--dport'),
        )
        for chain, ours, theirs, (our_port, their_port) in (
            ('INPUT', '-d', '-s', ports[0]),
            ('OUTPUT', '-s', '-d', ports[1]),
        ):
            parts = [chain, '-p tcp', theirs, remote]
            if selector.local is not None:
                parts += [ours, f'{ip_network(selector.local)}']
            parts += [our_port, str(selector.local_port)]
            if selector.remote_port is not None:
                parts += [their_port, str(selector.remote_port)]
            yield ' '.join((*parts, target))
        if self._errors:
            yield f'INPUT {_quoting(selector)} {target}'


def _quoting(selector: Selector) -> str:
    """ICMP errors that quote one of our packets to the peer; offsets are those of u32."""
    if selector.remote.version == 4:
        protocol = '-p icmp'
        # Past the outer IP header (its own length); an error's quoted header has no options.
        tests = ['0>>22&0x3C@0>>24=3', '0>>22&0x3C@8>>24=0x45', '0>>22&0x3C@16>>16&0xFF=6']
        base, source, destination, ports = '0>>22&0x3C@', 20, 24, 28
    else:
        protocol = '-p icmpv6'
        # No extension header outside or inside.
        tests = ['4>>8&0xFF=58', '40>>24=1:2', '52>>8&0xFF=6']
        base, source, destination, ports = '', 56, 72, 88
    addresses = list(_address_tests(base, destination, selector.remote))
    if selector.local is not None:
        addresses += _address_tests(base, source, ip_network(selector.local))
    port = selector.local_port
    tests.append(f'{base}{ports}>>16&0xFFFF={port}')
    if selector.remote_port is not None:
        tests.append(f'{base}{ports}&0xFFFF={selector.remote_port}')
    # One match takes eleven tests at most.
    matches = (f'-m u32 --u32 "{" && ".join(part)}"' for part in (tests, addresses) if part)
    return ' '.join((protocol, *matches))


def _address_tests(base: str, offset: int, network: IPNetwork) -> Iterator[str]:
    address, mask = network.network_address.packed, network.netmask.packed
    for at in range(0, len(address), 4):
        wanted, bits = address[at : at + 4].hex(), mask[at : at + 4].hex()
        if int(bits, 16):
            yield f'{base}{offset + at}&0x{bits}=0x{wanted}'


def listed(kind: Kind) -> dict[int, set[Selector]]:
    """Queues of all rules of ours that this variant shows, and the traffic of each."""
    found: dict[int, set[Selector]] = {}
    for version in _PREFIX:
        for queue, rule in _ours(kind, version):
            selector = selector_of(_name(rule)[1])
            found.setdefault(queue, set()).update({selector} if selector is not None else ())
    return found


def remove_queues(kind: Kind, queues: Collection[int]) -> list[str]:
    """See `rules.remove_stale`."""
    found = []
    for version in _PREFIX:
        stale = [(queue, rule) for queue, rule in _ours(kind, version) if queue in queues]
        if stale:
            _restore(kind, version, [f'-D {rule}' for _, rule in stale])
        for queue, count in sorted(Counter(queue for queue, _ in stale).items()):
            found.append(f'{count} rules of {_command(kind, version)} to queue {queue}')
    return found


def _ours(kind: Kind, version: int) -> Iterator[tuple[int, str]]:
    """Queue and text of our rules, as -A or -D would take it."""
    try:
        # Without -t: naming a table would make it.
        listing = _run(f'{_command(kind, version)}-save', [], '')
    except RulesError:
        return
    table = ''
    for line in listing.splitlines():
        if line.startswith('*'):
            table = line[1:].strip()
        elif line.startswith('-A ') and f'"{NAME} queue ' in line and table == _TABLE:
            rule = line[3:]
            _, text = _name(rule)
            queue = queue_of(text)
            if queue is not None:
                yield queue, rule


def _name(rule: str) -> tuple[str, str]:
    """Chain and comment."""
    # The match u32 quotes too.
    quotes = rule[: rule.index('--comment "')].count('"')
    return rule.split(maxsplit=1)[0], rule.split('"')[quotes + 1]


def _command(kind: Kind, version: int) -> str:
    return kind.value.replace('iptables', _PREFIX[version])


def _watch(kind: Kind) -> Watch:
    version = _run(kind.value, ['--version'], '')
    try:
        # Before 1.8 there was no other, and no word for it.
        return NftablesWatch() if 'nf_tables' in version else LockWatch()
    except OSError as error:
        raise RulesError(
            f'it cannot be noticed when a firewall removes our rules: {error}'
        ) from None


def _restore(kind: Kind, version: int, lines: Iterable[str], chain: str | None = None) -> None:
    made = [f':{chain} - [0:0]'] if chain is not None else []
    text = '\n'.join([f'*{_TABLE}', *made, *lines, 'COMMIT', ''])
    _run(f'{_command(kind, version)}-restore', ['--noflush', '-w', '20'], text)


def _run(command: str, arguments: list[str], text: str) -> str:
    try:
        done = subprocess.run(
            [command, *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            env=_ENVIRONMENT,
            check=False,
        )
    except FileNotFoundError:
        raise RulesError(f'{command} is not installed') from None
    except subprocess.TimeoutExpired:
        raise RulesError(f'{command} did not end within {_PATIENCE:g} s') from None
    if done.returncode:
        said = ' '.join(line for line in done.stderr.splitlines() if line.strip())
        raise RulesError(f'{command} said: {said[:300] or done.returncode}')
    return done.stdout
