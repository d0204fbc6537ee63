"""Whether the backend of this host can do what is asked of it: before anything depends on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gatekeeper.policy import PolicyError, SessionPolicy
from tcpao.installer import Capabilities
from tcpao.kdf import KmacUnavailableError, is_available
from tcpao.mkt import ALGORITHMS, Algorithm


def check_suites(policies: Iterable[SessionPolicy], capabilities: Capabilities) -> None:
    """Raises PolicyError for an algorithm that the backend can't do; says what could."""
    for policy in policies:
        for algorithm, where in _asked_for(policy):
            if algorithm.name not in capabilities.algorithms:
                raise PolicyError(
                    f'neighbor {policy.neighbor} session {policy.session.name}: {where}algorithm '
                    f'{algorithm.name}: {_why_not(algorithm, capabilities)}'
                )


def _asked_for(policy: SessionPolicy) -> Iterator[tuple[Algorithm, str]]:
    if policy.keychain is None:
        yield from ((ALGORITHMS[name], '') for name in policy.algorithms)
    else:
        for key in policy.keychain.keys:
            yield key.algorithm, f'keychain {policy.keychain.name} key {key.number}: '


def _why_not(algorithm: Algorithm, capabilities: Capabilities) -> str:
    if capabilities.backend not in algorithm.backends:
        able = ' or '.join(f'tcp-ao-backend {name}' for name in algorithm.backends)
        return f'the {capabilities.backend} backend has no such suite; try {able}'
    if not is_available(algorithm):
        return (
            f'the {capabilities.backend} backend cannot do it on this host: '
            f'{KmacUnavailableError()} and restart the daemon, or choose another algorithm'
        )
    return (
        f'the {capabilities.backend} backend could not do it on this host when it started; restart '
        f'the daemon if that has changed, or choose another algorithm'
    )
