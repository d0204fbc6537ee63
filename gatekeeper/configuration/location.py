"""Where in a configuration something stands, and the one error that says what is wrong there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Location:
    """A line of a file, counted from 1 as editors do."""

    file: str
    """Empty where the configuration is a text without a file."""
    line: int

    def __str__(self) -> str:
        return f'{self.file or "configuration"} line {self.line}'


class ConfigurationError(Exception):
    """A configuration that can't be: file, true line, directive, cause, what was expected.

    The text is for operators and holds no secret.
    """

    def __init__(self, place: Location, directive: str, cause: str, expected: str = '') -> None:
        hint = f'; expected {expected}' if expected else ''
        super().__init__(f'{place}: {directive}: {cause}{hint}')
        self.place = place
