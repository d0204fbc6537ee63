"""The second net for the configured sessions: wide enough before a neighbor is protected."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gatekeeper.policy.sessions import SessionPolicy
from tcpao.second_net.client import NetError, SecondNet
from tcpao.second_net.ruleset import Service

BY_HAND = (
    'look at `nft list ruleset`; nft delete table inet exabgp-gatekeeper-net-N takes it away '
    '(by iptables: iptables-save, chains exabgp-gk-net-N)'
)


def services_of(policies: Iterable[SessionPolicy]) -> frozenset[Service]:
    """Return peers and ports of these sessions, whichever side opens them."""
    return frozenset(
        (policy.remote, port)
        for policy in policies
        for port in (policy.connect_port, policy.listen_port)
        if port is not None
    )


class ProtectedServices:
    """The services in the second net. For the gatekeeper's thread."""

    def __init__(self, net: SecondNet, tell: Callable[[str, str], None]) -> None:
        """Take `tell`, which gets a failure and what to do about it."""
        self._net = net
        self._tell = tell
        self._kept: frozenset[Service] = frozenset()

    def widen(self, policies: Iterable[SessionPolicy]) -> None:
        """Add sessions that are about to be protected.

        A failure is only reported: the backend protects the sessions without the net.
        """
        self._have(self._kept | services_of(policies))

    def keep(self, policies: Iterable[SessionPolicy]) -> None:
        """Reduce the net to exactly these sessions."""
        self._have(services_of(policies))

    def lose(self) -> None:
        """Report that the net's process has ended by itself."""
        self._net.lose()
        self._tell(
            'the process of the second net has ended: its rules stay as they are, whatever a '
            'reload changes',
            f'restart the daemon when that suits; {BY_HAND}',
        )

    def _have(self, services: frozenset[Service]) -> None:
        if services == self._kept:
            return
        try:
            self._net.keep(services)
        except NetError as error:
            self._tell(f'the second net is not as it should be: {error}', BY_HAND)
        else:
            self._kept = services
