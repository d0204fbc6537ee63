"""Which of our modules imports which, read from the syntax trees; nothing is executed."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

ROOT = Path(__file__).parents[1]
PACKAGES: Final = ('plugin', 'gatekeeper', 'ikev2', 'tcpao', 'keymaterial')

OWN_NAMES: Final = ('exabgp-gatekeeper', 'exabgp-gk-')
"""Names of this distribution, and of the rules that it makes; they don't name the daemon."""


def modules() -> dict[str, Path]:
    """The files of our packages, by module name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob('*.py')):
            parts = path.relative_to(ROOT).with_suffix('').parts
            found['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = path
    return found


def _imported(tree: ast.AST, known: Mapping[str, Path]) -> Iterator[str]:
    """Relative imports: there are none, which ruff doesn't hold, so they are refused here."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, 'a relative import'
            for alias in node.names:
                full = f'{node.module}.{alias.name}'
                yield full if full in known else str(node.module)


def _imports() -> dict[str, frozenset[str]]:
    known = modules()
    return {
        name: frozenset(_imported(ast.parse(path.read_text()), known)) & known.keys()
        for name, path in known.items()
    }


IMPORTS: Final[Mapping[str, frozenset[str]]] = _imports()
"""Our modules, and those of ours that each imports."""


def _reachable(graph: Mapping[str, frozenset[str]], start: str) -> frozenset[str]:
    seen: set[str] = set()
    left = set(graph[start])
    while left:
        module = left.pop()
        seen.add(module)
        left |= graph[module] - seen
    return frozenset(seen)


def circles(graph: Mapping[str, frozenset[str]]) -> list[frozenset[str]]:
    """Sets of modules of which each reaches every other one."""
    reach = {module: _reachable(graph, module) for module in graph}
    found = {
        frozenset(other for other in reach[module] if module in reach[other])
        for module in graph
        if module in reach[module]
    }
    return sorted(found, key=sorted)


def lines_naming(*words: str) -> list[tuple[str, str]]:
    """Module and line where one outside `plugin` has one of these words, in any case."""
    found = []
    for name, path in modules().items():
        if name.split('.', 1)[0] == 'plugin':
            continue
        for line in path.read_text().splitlines():
            text = line.lower()
            for own in OWN_NAMES:
                text = text.replace(own, '')
            if any(word in text for word in words):
                found.append((name, line.strip()))
    return found
