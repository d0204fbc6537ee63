"""The keeper of the second net: a process with the privileges that the daemon gives up.

The keeper and the daemon exchange lines of JSON: a list of services is a request for rules,
`"count"` for the counters, `"end"` for the removal. When the daemon ends in any other way the rules
stay. When another program flushes the firewall the rules are made again.
"""

from __future__ import annotations

import json
import select
import signal
import socket
import sys
from collections.abc import Collection
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, Final

from tcpao.second_net.interface import NetRules
from tcpao.second_net.numbers import hold_a_free_one, nobody_holds
from tcpao.second_net.ruleset import Service
from tcpao.second_net.ways import WAYS, existing
from tcpao.userspace.process.hardening import harden
from tcpao.userspace.rules.interface import RulesError

_LARGEST: Final = 1 << 22
"""Octets of a request: some 100,000 services."""


class Keeper:
    """The state of one daemon's net."""

    def __init__(self, channel: socket.socket) -> None:
        """Check that rules can be made. Raises RulesError or OSError if not."""
        self._channel = channel
        there = existing()
        left = nobody_holds(number for _, number in there)
        self._number, self._held = hold_a_free_one(number for _, number in there)
        self._left = [one for one in there if one[1] in left]
        """Nets of killed daemons; they stay until ours is there."""
        self._rules = _first_that_works(self._number)
        self._services: frozenset[Service] = frozenset()
        self._watch = self._rules.watch(self._number)

    def run(self) -> None:
        """Serve until the daemon ends, or announces its end."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(self._watch.fileno(), select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._watch.fileno() in ready and self._watch.removals():
                self._restore()
            if self._channel.fileno() in ready and not self._serve():
                return

    def _serve(self) -> bool:
        """Serve one request; return False if the daemon has ended."""
        octets = self._channel.recv(_LARGEST)
        if not octets:
            return False
        request = json.loads(octets)
        try:
            answer: Any = self._carry_out(request)
        except RulesError as error:
            answer = {'error': str(error)}
        with suppress(OSError):
            self._channel.send(json.dumps(answer).encode())
        return bool(request != 'end')

    def _carry_out(self, request: Any) -> dict[str, int]:
        if request == 'count':
            return self._rules.counters(self._number)
        services = () if request == 'end' else request
        self._have(frozenset((ip_address(peer), port) for peer, port in services))
        return {}

    def _have(self, services: frozenset[Service]) -> None:
        if services != self._services or self._left:
            mine = [number for rules, number in self._left if rules is self._rules]
            self._rules.replace(self._number, services, mine)
            for rules, number in self._left:
                if rules is not self._rules:
                    rules.replace(number, ())
            self._services, self._left = services, []
            # Ignore our own removals.
            self._watch.removals()

    def _restore(self) -> None:
        """Make the rules again if they are missing; the next flush is noticed again."""
        with suppress(RulesError):
            if self._services and not self._rules.stands(self._number, self._services):
                self._rules.replace(self._number, self._services)


def _first_that_works(number: int) -> NetRules:
    """Return the first way to make rules that the kernel takes. Raises RulesError with all errors.

    A test of each: rules for an address that no host has, made and removed.
    """
    reasons = []
    for rules in WAYS:
        try:
            rules.replace(number, [(ip_address('0.0.0.0'), 1)])
            rules.replace(number, ())
        except RulesError as error:
            reasons.append(str(error))
        else:
            return rules
    raise RulesError('; '.join(dict.fromkeys(reasons)))


def main(arguments: Collection[str]) -> int:
    """Run the keeper, which `client` starts: `python -m tcpao.second_net DESCRIPTOR`."""
    (descriptor,) = arguments
    channel = socket.socket(fileno=int(descriptor))
    harden()
    # The daemon decides when the net is removed.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        keeper = Keeper(channel)
    except (RulesError, OSError) as error:
        channel.send(json.dumps({'error': str(error)}).encode())
        return 1
    channel.send(b'{}')
    keeper.run()
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
