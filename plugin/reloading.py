"""Configuration loads as a whole: checks among neighbors, our errors, and nothing half done.

A load that is refused changes nothing. Upstream forgets to clean its parser after a refusal (the
next good configuration then fails as a duplicate) and puts the helper processes of the refused
one in place; both are put right here, for gated and other neighbors alike. With a
gatekeeper running, it takes the new policies before the first new neighbor becomes active.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from exabgp.configuration.configuration import Configuration

from gatekeeper.policy import PolicyError, SessionPolicy
from plugin.patching import wrap
from plugin.places import SectionError
from plugin.policies import policies_of

Commit = Callable[[list[SessionPolicy], Mapping[str, Any]], str | None]
"""Put new policies in force, before the neighbors; returns why not."""


def set_commit(configuration: Any, commit: Commit) -> None:
    """Have this configuration's next loads approved."""
    configuration.ikev2_commit = commit


def _parse_section(original: Any, self: Any, name: str) -> Any:
    parsed = original(self, name)
    if parsed is not True or name != 'root':
        return parsed
    neighbors = self.neighbor.neighbors
    try:
        policies = policies_of(neighbors)
    except (SectionError, PolicyError) as error:
        return _refuse(self, str(error))
    commit = getattr(self, 'ikev2_commit', None)
    against = commit(policies, neighbors) if commit is not None else None
    return True if against is None else _refuse(self, against)


def _refuse(configuration: Any, cause: str) -> bool:
    configuration.error.ikev2 = cause
    return bool(configuration.error.set(cause))


def _reload(original: Any, self: Any) -> Any:
    before = self.processes, self.neighbors
    self.error.ikev2 = ''
    try:
        reloaded = original(self)
    except Exception:
        self.processes, self.neighbors = before
        _clean(self)
        raise
    if reloaded is True:
        return True
    self.processes, self.neighbors = before
    cause = self.error.ikev2 or str(self.error)
    _clean(self)
    return self.error.set(cause)


def _clean(configuration: Any) -> None:
    """What upstream does after a load that went well."""
    configuration._cleanup()


def install() -> None:
    """Patch ExaBGP's configuration."""
    wrap(Configuration, 'parse_section', _parse_section)
    wrap(Configuration, '_reload', _reload)
