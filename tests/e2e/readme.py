"""The steps of a page: what is written where, run where, and printed then."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

PROJECT = Path(__file__).resolve().parents[2]
README = PROJECT / 'README.md'
RECIPES = PROJECT / 'docs' / 'recipes.md'
_MARKED = re.compile(r'<!-- (.+?) -->\n\n((?:    .*\n|\n(?=    ))+)')


@dataclass(frozen=True, slots=True)
class Step:
    """A block of a page, and what stands above it in a comment."""

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


def steps(text: str) -> Iterator[Step]:
    """In the order of the text."""
    for mark, block in _MARKED.findall(text):
        yield Step(mark, dedent(block))


def sections(page: Path) -> Iterator[tuple[str, list[Step]]]:
    """The headings of a page that have steps below them, and these."""
    for part in page.read_text().split('\n## ')[1:]:
        found = list(steps(part))
        if found:
            yield part.partition('\n')[0], found


def fits(pattern: str, printed: str) -> bool:
    """Return True if this was printed, with anything in place of three dots."""
    parts = (re.escape(part) for part in pattern.strip().split('...'))
    return re.search('.*?'.join(parts), printed, re.DOTALL) is not None
