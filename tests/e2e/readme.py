"""The README's steps: what is written where, run where, and printed then."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

PAGE = Path(__file__).resolve().parents[2] / 'README.md'
_MARKED = re.compile(r'<!-- (.+?) -->\n\n((?:    .*\n|\n(?=    ))+)')


@dataclass(frozen=True, slots=True)
class Step:
    """A block of the README, and what stands above it in a comment."""

    mark: str
    text: str
    """Without its indentation."""

    @property
    def routers(self) -> list[str]:
        """Where it is to be done."""
        return re.findall(r'\br[12]\b', self.mark)

    @property
    def file(self) -> str | None:
        """The file that it is the content of."""
        return self.mark.split()[0] if self.mark.startswith('/') else None


def steps() -> Iterator[Step]:
    """In the order of the page."""
    for mark, block in _MARKED.findall(PAGE.read_text()):
        yield Step(mark, dedent(block))


def fits(pattern: str, printed: str) -> bool:
    """Return True if this was printed, with anything in place of three dots."""
    parts = (re.escape(part) for part in pattern.strip().split('...'))
    return re.search('.*?'.join(parts), printed, re.DOTALL) is not None
