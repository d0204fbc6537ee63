"""The statements of an `ikev2 { }` section, before neighbor and template are merged.

Data only; `gatekeeper.configuration.directive_table` has the allowed words, and
`plugin.configuration.neighbor_protection` their effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from gatekeeper.configuration.directive_table import superseded_by
from gatekeeper.configuration.location import Location

Family = tuple[str, str]
"""AFI and SAFI with the names of configurations: ('ipv4', 'unicast')."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A directive's value, checked on its own, and its location."""

    value: object
    place: Location


@dataclass(frozen=True, slots=True)
class SectionStatements:
    """The directives of one section, and of its `session` blocks."""

    place: Location
    directives: Mapping[str, Statement] = field(default_factory=dict)
    sessions: Mapping[Family, SectionStatements] = field(default_factory=dict)

    def over(self, base: SectionStatements) -> SectionStatements:
        """Return this section merged over an inherited one: its own words have precedence."""
        superseded = superseded_by(self.directives)
        inherited = {
            name: directive for name, directive in base.directives.items() if name not in superseded
        }
        sessions = dict(base.sessions)
        for family, session in self.sessions.items():
            sessions[family] = session.over(sessions[family]) if family in sessions else session
        return SectionStatements(self.place, {**inherited, **self.directives}, sessions)

    # Adapters may deep-copy neighbors; this object never changes, so one is enough.
    def __deepcopy__(self, memo: object) -> Self:
        return self
