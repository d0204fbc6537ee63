"""The true line of every statement of a configuration file.

ExaBGP's "line N" counts statements. Here each statement learns the line of the file on which it
begins, and ExaBGP's own count becomes that line, so that its messages and ours say the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from exabgp.configuration.core import tokeniser as module
from exabgp.configuration.core.format import unescape
from exabgp.configuration.core.tokeniser import Tokeniser

from plugin.patching import replace, wrap
from plugin.places import Place


class Statement(list[str]):
    """A statement's words, as ExaBGP handles them, and its line."""

    line = 0


class _Lines:
    """Counts the physical lines under the logical ones (a backslash at the end continues)."""

    def __init__(self, tokeniser: Any, lines: Iterable[str]) -> None:
        self._tokeniser = tokeniser
        self._lines = lines
        self._begin = 0
        self._end = 0

    def __iter__(self) -> Iterator[str]:
        # `index_line` is counted for files only; a text has no continuations.
        from_file = self._tokeniser.type == 'file'
        for number, line in enumerate(self._lines, 1):
            self._begin = self._end + 1 if from_file else number
            self._end = self._tokeniser.index_line if from_file else number
            yield line

    def line_of(self, column: int) -> int:
        """The physical line of a column of the current logical line, comments apart."""
        if self._begin >= self._end:
            return self._begin
        # ExaBGP joins continued lines with the backslash left in, and unescapes afterwards: the
        # physical boundaries are the lines' own lengths.
        line, passed = self._begin, 0
        for physical in _physical(self._tokeniser.iterate.fname, self._begin, self._end):
            passed += _length(physical.removesuffix('\\'))
            if column < passed:
                return line
            line += 1
        return min(line, self._end)


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
    for parsed in module.tokens(lines):
        statement = Statement(word for _, _, word in parsed)
        statement.line = lines.line_of(parsed[0][1])
        self.line = ''.join(statement)
        yield statement


def _next_statement(original: Any, self: Any) -> Any:
    number = self.number
    statement = original(self)
    self.number = statement.line if isinstance(statement, Statement) else number
    return statement


def place_of(tokeniser: Any) -> Place:
    """Where the statement stands that the tokeniser has just handed out."""
    line = tokeniser.line
    number = line.line if isinstance(line, Statement) else tokeniser.number
    return Place(tokeniser.iterate.fname if tokeniser.type == 'file' else '', number)


def install() -> None:
    """Patch ExaBGP's tokeniser."""
    replace(Tokeniser, '_tokenise', _tokenise)
    wrap(Tokeniser, '__call__', _next_statement)
