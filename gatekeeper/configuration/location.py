"""Locations in a configuration, and the error that names one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Location:
    """A line of a file, counted from 1 as in editors."""

    file: str
    """Empty for a configuration without a file."""
    line: int

    def __str__(self) -> str:
        return f'{self.file or "configuration"} line {self.line}'


class ConfigurationError(Exception):
    """An invalid configuration: file, true line, directive, cause, expected form.

    The text is for operators and holds no secret.
    """

    def __init__(self, place: Location, directive: str, cause: str, expected: str = '') -> None:
        hint = f'; expected {expected}' if expected else ''
        super().__init__(f'{place}: {directive}: {cause}{hint}')
        self.place = place
