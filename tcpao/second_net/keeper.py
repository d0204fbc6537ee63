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

from tcpao.second_net import nft
from tcpao.second_net.nft import NftError
from tcpao.second_net.numbers import hold_a_free_one, nobody_holds
from tcpao.second_net.ruleset import Service, script, table_name
from tcpao.userspace.process.hardening import harden
from tcpao.userspace.rules.nftables_watch import NftablesWatch

_LARGEST: Final = 1 << 22
"""Octets of a request: some 100,000 services."""


class Keeper:
    """The state of one daemon's net."""

    def __init__(self, channel: socket.socket) -> None:
        """Check that rules can be made. Raises NftError or OSError if not."""
        self._channel = channel
        left = nobody_holds(nft.our_tables())
        self._number, self._held = hold_a_free_one(left)
        # A test: one rule for an address that no host has, made and removed.
        nft.apply(script(self._number, [(ip_address('0.0.0.0'), 1)]))
        nft.apply(script(self._number, ()))
        self._left = left
        self._services: frozenset[Service] = frozenset()
        self._watch = NftablesWatch({table_name(self._number)})

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
        except NftError as error:
            answer = {'error': str(error)}
        with suppress(OSError):
            self._channel.send(json.dumps(answer).encode())
        return bool(request != 'end')

    def _carry_out(self, request: Any) -> dict[str, int]:
        if request == 'count':
            return nft.counters(self._number)
        services = () if request == 'end' else request
        self._have(frozenset((ip_address(peer), port) for peer, port in services))
        return {}

    def _have(self, services: frozenset[Service]) -> None:
        if services != self._services or self._left:
            nft.apply(script(self._number, services, self._left))
            self._services, self._left = services, []
            # Ignore our own removals.
            self._watch.removals()

    def _restore(self) -> None:
        """Make the rules again if they are missing; the next flush is noticed again."""
        with suppress(NftError):
            if self._services and self._number not in nft.our_tables():
                nft.apply(script(self._number, self._services))


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
    except (NftError, OSError) as error:
        channel.send(json.dumps({'error': str(error)}).encode())
        return 1
    channel.send(b'{}')
    keeper.run()
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
