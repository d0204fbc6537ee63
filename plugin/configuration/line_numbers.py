"""The true line of every statement of a configuration file.

ExaBGP's "line N" counts statements. Here each statement gets the line of the file on which it
begins. ExaBGP's own count becomes that line, so its messages and ours agree. Unfinished
statements are reported with their line too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from exabgp.configuration.core import tokeniser as module
from exabgp.configuration.core.format import unescape
from exabgp.configuration.core.tokeniser import Tokeniser

from gatekeeper.configuration.location import ConfigurationError, Location
from plugin.patching import replace, wrap


class Statement(list[str]):
    """A statement's words, as ExaBGP handles them, and its line."""

    line = 0


class _Lines:
    """A counter of the physical lines under the logical ones (a backslash at the end continues)."""

    def __init__(self, tokeniser: Any, lines: Iterable[str]) -> None:
        self._tokeniser = tokeniser
        self._lines = lines
        self._begin = 0
        self._end = 0
        self._text = ''

    def __iter__(self) -> Iterator[str]:
        # `index_line` is counted for files only; a text has no continuations.
        from_file = self._tokeniser.type == 'file'
        for number, line in enumerate(self._lines, 1):
            self._begin = self._end + 1 if from_file else number
            self._end = self._tokeniser.index_line if from_file else number
            self._text = line
            yield line

    def line_of(self, column: int) -> int:
        """Return the physical line of a column of the current logical line, comments not
        counted.
        """
        if self._begin >= self._end:
            return self._begin
        # ExaBGP joins continued lines with the backslash left in, and unescapes afterwards: the
        # physical lines are found by their lengths.
        line, passed = self._begin, 0
        for physical in _physical(self._tokeniser.iterate.fname, self._begin, self._end):
            passed += _length(physical.removesuffix('\\'))
            if column < passed:
                return line
            line += 1
        return min(line, self._end)

    def fault(self, error: ValueError) -> ConfigurationError:
        """Return the error in the current logical line.

        Its words may be secret, except the first word of a statement.
        """
        file = self._tokeniser.iterate.fname if self._tokeniser.type == 'file' else ''
        try:
            text = ''.join(unescape(self._text))
        except ValueError:
            place = Location(file, self._begin)
            return ConfigurationError(
                place, 'backslash', str(error), 'another one before it, to mean it'
            )
        column, words, quoted = _unfinished(text)
        place = Location(file, self.line_of(column))
        cause = 'a quote is not closed' if quoted else 'the statement does not end'
        return ConfigurationError(place, words[0], cause, '; or { at its end, on the same line')


def _unfinished(text: str) -> tuple[int, list[str], bool]:
    """Return column and words after the last statement of a line, and True if a quote is open."""
    begin, end, quote = 0, len(text), ''
    for column, char in enumerate(text):
        if char in '"\'':
            # As in ExaBGP: the other kind of quote begins anew.
            quote = '' if quote == char else char
        elif not quote and char in ';{}':
            begin = column + 1
        elif not quote and char == '#':
            end = column
            break
    rest = text[begin:end]
    return begin + len(rest) - len(rest.lstrip()), rest.split() or ['statement'], bool(quote)


def _undecodable(file: str, error: UnicodeDecodeError) -> ConfigurationError:
    """Return the error with the line: ExaBGP reads its file in pieces of many lines."""
    with open(file, 'rb') as opened:
        for number, line in enumerate(opened, 1):
            try:
                line.decode(error.encoding)
            except UnicodeDecodeError as found:
                octet = line[found.start]
                cause = f'the octet 0x{octet:02x} is no text in {error.encoding}'
                return ConfigurationError(
                    Location(file, number), 'character', cause, error.encoding
                )
    return ConfigurationError(Location(file, 1), 'character', error.reason, error.encoding)


def _physical(file: str, begin: int, end: int) -> list[str]:
    with open(file) as opened:
        return [line.rstrip() for line in opened][begin - 1 : end]


def _length(text: str) -> int:
    try:
        return len(unescape(text))
    except ValueError:
        return len(text)


def _tokenise(self: Any, iterator: Iterable[str]) -> Iterator[list[str]]:
    lines = _Lines(self, iterator)
    try:
        for parsed in module.tokens(lines):
            statement = Statement(word for _, _, word in parsed)
            statement.line = lines.line_of(parsed[0][1])
            self.line = ''.join(statement)
            yield statement
    except UnicodeDecodeError as error:
        raise _undecodable(self.iterate.fname, error) from None
    except ValueError as error:
        if self.type not in ('file', 'text'):
            # A command of the API, which handles the error.
            raise
        raise lines.fault(error) from None


def _next_statement(original: Any, self: Any) -> Any:
    number = self.number
    statement = original(self)
    self.number = statement.line if isinstance(statement, Statement) else number
    return statement


def place_of(tokeniser: Any) -> Location:
    """Return the location of the statement that the tokeniser has just returned."""
    line = tokeniser.line
    number = line.line if isinstance(line, Statement) else tokeniser.number
    return Location(tokeniser.iterate.fname if tokeniser.type == 'file' else '', number)


def install() -> None:
    """Patch ExaBGP's tokeniser."""
    replace(Tokeniser, '_tokenise', _tokenise)
    wrap(Tokeniser, '__call__', _next_statement)
