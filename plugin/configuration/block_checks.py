"""Checks for errors that ExaBGP ignores, and that would leave a neighbor unprotected.

A closing brace too many ends the configuration there; the end of the file closes every block; a
template that does not exist (yet), or that would have to be inherited through another, is ignored.
Refused where protection is at stake; files without an `ikev2` section load as before.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from exabgp.configuration.core import Section

from gatekeeper.configuration.location import ConfigurationError
from plugin.configuration.ikev2_section import SCOPE
from plugin.configuration.line_numbers import place_of
from plugin.patching import wrap


def check_end(configuration: Any) -> None:
    """Check that the configuration ends where its file does. Raises ConfigurationError."""
    tokeniser = configuration.tokeniser
    if tokeniser.end != '}':
        return
    place = place_of(tokeniser)
    gated = any(one[SCOPE] is not None for one in configuration.neighbor.neighbors.values())
    rest = []
    with suppress(ConfigurationError):
        while statement := tokeniser():
            rest.append(statement[0])
    if gated or SCOPE in rest:
        cause = 'this brace closes nothing, and what follows it would be ignored'
        raise ConfigurationError(place, '}', cause, 'as many closing braces as opening ones')


def begin(error: Any) -> None:
    """Begin to read a configuration."""
    error.ikev2_inheritance = []


def check_inheritance(configuration: Any) -> None:
    """Check that no neighbor lacks the section of a template. Raises ConfigurationError."""
    noted: list[ConfigurationError] = configuration.error.ikev2_inheritance
    if noted and any(SCOPE in template for template in _templates(configuration.scope).values()):
        raise noted[0]


def _templates(scope: Any) -> dict[str, Any]:
    found: dict[str, Any] = scope._all['template'].get('neighbor', {})
    return found


def _parse(original: Any, self: Any, name: str, command: str) -> Any:
    if command == 'inherit':
        self.error.ikev2_inheritance += _not_inherited(self)
    return original(self, name, command)


def _not_inherited(section: Any) -> list[ConfigurationError]:
    place, words = place_of(section.tokeniser), section.tokeniser.line[1:-1]
    if section.scope.location().startswith('template'):
        cause = 'a template does not inherit from another'
        return [
            ConfigurationError(place, 'inherit', cause, 'both in the neighbor: inherit [ A B ]')
        ]
    missing = set(words) - {'[', ']', ','} - set(_templates(section.scope))
    return [
        ConfigurationError(place, 'inherit', f'no template {name!r} stands above', 'one that does')
        for name in sorted(missing)
    ]


def install() -> None:
    """Patch ExaBGP's grammar."""
    wrap(Section, 'parse', _parse)
