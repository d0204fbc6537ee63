"""A check that the backend of this host supports the configured algorithms, before sessions depend
on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gatekeeper.errors import PolicyError
from gatekeeper.policy.sessions import SessionPolicy
from tcpao.backend import Preference
from tcpao.installer import Capabilities
from tcpao.kdf import KmacUnavailableError, is_available
from tcpao.mkt import ALGORITHMS, Algorithm

_NAMED = {str(Preference.KERNEL), str(Preference.USERSPACE)}


def check_suites(policies: Iterable[SessionPolicy], capabilities: Capabilities) -> None:
    """Check that the backend supports all algorithms.

    Raises PolicyError, which names alternatives.
    """
    policies = tuple(policies)
    check_possible(policies)
    for policy in policies:
        for algorithm, where in _asked_for(policy):
            if algorithm.name not in capabilities.algorithms:
                raise PolicyError(
                    f'neighbor {policy.neighbor} session {policy.session.name}: {where}algorithm '
                    f'{algorithm.name}: {_why_not(algorithm, capabilities)}'
                )


def check_possible(policies: Iterable[SessionPolicy]) -> None:
    """Check that some backend on this host could support the algorithms, whatever the kernel.

    Raises PolicyError if the named backend has no such suite, or if a package is missing.
    """
    for policy in policies:
        for algorithm, where in _asked_for(policy):
            name = f'neighbor {policy.neighbor} session {policy.session.name}: {where}algorithm'
            if policy.backend in _NAMED and policy.backend not in algorithm.backends:
                why = _not_in(algorithm, policy.backend)
            elif not is_available(algorithm):
                why = f'{KmacUnavailableError()}, or choose another algorithm'
            else:
                continue
            raise PolicyError(f'{name} {algorithm.name}: {why}')


def _not_in(algorithm: Algorithm, backend: str) -> str:
    able = ' or '.join(f'tcp-ao-backend {name}' for name in algorithm.backends)
    return f'the {backend} backend has no such suite; try {able}'


def _asked_for(policy: SessionPolicy) -> Iterator[tuple[Algorithm, str]]:
    if policy.keychain is None:
        yield from ((ALGORITHMS[name], '') for name in policy.algorithms)
    else:
        for key in policy.keychain.keys:
            yield key.algorithm, f'keychain {policy.keychain.name} key {key.number}: '


def _why_not(algorithm: Algorithm, capabilities: Capabilities) -> str:
    if capabilities.backend not in algorithm.backends:
        return _not_in(algorithm, capabilities.backend)
    return (
        f'the {capabilities.backend} backend could not do it on this host when it started; restart '
        f'the daemon if that has changed, or choose another algorithm'
    )
