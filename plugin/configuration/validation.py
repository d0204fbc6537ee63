"""The command `validate`: errors that a daemon would report, and settings that will not work.

A daemon's own environment decides what listens; `validate` may have another environment, so it
warns where a daemon refuses.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from exabgp.application import validate as module
from exabgp.configuration.configuration import Configuration

from gatekeeper.errors import PolicyError
from gatekeeper.policy.doubts import doubts_about
from gatekeeper.policy.sessions import SessionPolicy
from plugin.configuration import vrf
from plugin.configuration.environment import SECTION, helper_obstacle
from plugin.configuration.session_policies import backend_of, policies_of, unreachable
from plugin.patching import replace

PREFIXES = ('exabgp_ikev2_', 'exabgp.ikev2.')


class ValidatedConfiguration(Configuration):  # type: ignore[misc]
    """A configuration that is loaded only to be checked."""

    def reload(self) -> Any:
        loaded = super().reload()
        if loaded is not True:
            return loaded
        policies = policies_of(self.neighbors, self.ikev2_chains)
        try:
            backend_of(policies)
        except PolicyError as error:
            return self.error.set(f'ikev2: {error}')
        for warning in warnings_about(policies, os.environ, time.time()):
            sys.stderr.write(f'warning: {warning}\n')
        return True


def warnings_about(
    policies: Sequence[SessionPolicy], environment: Mapping[str, str], wall: float
) -> Iterator[str]:
    """Yield a sentence for each setting that is valid, but will not work."""
    yield from map(str, unreachable(policies))
    yield from doubts_about(policies, wall)
    yield from vrf.unheard(policies)
    yield from unknown_settings(environment)
    yield from filter(None, [helper_obstacle()])


def unknown_settings(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning for each variable that looks like a setting of ours and is none."""
    for name in environment:
        for prefix in PREFIXES:
            if name.startswith(prefix) and name.removeprefix(prefix) not in SECTION:
                known = ', '.join(SECTION)
                yield f'{name} is no setting and is ignored: exabgp.ikev2 has {known}'


def install() -> None:
    """Patch ExaBGP's `validate`."""
    replace(module, 'Configuration', ValidatedConfiguration)
