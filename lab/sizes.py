"""Files, folders and functions above our limits of size, each with its reason.

    python -m lab.sizes

The reasons are in `lab/sizes.toml`. A test fails for a size without a reason there, and for a
reason that isn't needed any more.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
REASONS = Path(__file__).with_name('sizes.toml')
PACKAGES = ('plugin', 'gatekeeper', 'ikev2', 'tcpao', 'keymaterial', 'lab', 'bench')

MAX_FILE_LINES = 350
MAX_FOLDER_FILES = 15
"""Without `__init__` and `__main__`."""
MAX_FUNCTION_LINES = 40


def too_large() -> dict[str, int]:
    """Return size by name: `path`, `folder/` or `path:function`."""
    found: dict[str, int] = {}
    folders: Counter[str] = Counter()
    for path in _tracked():
        text = (PROJECT / path).read_text()
        lines = text.count('\n')
        if lines > MAX_FILE_LINES:
            found[str(path)] = lines
        if path.stem not in ('__init__', '__main__'):
            folders[f'{path.parent}/'] += 1
        found |= {
            f'{path}:{name}': length
            for name, length in _functions(text)
            if length > MAX_FUNCTION_LINES
        }
    return found | {name: count for name, count in folders.items() if count > MAX_FOLDER_FILES}


def reasons() -> dict[str, str]:
    """Return the reason for each size above the limit, by the same names."""
    found: dict[str, str] = tomllib.loads(REASONS.read_text())
    return found


def _tracked() -> list[Path]:
    listed = subprocess.run(
        ['git', 'ls-files', *(f'{package}/*.py' for package in PACKAGES)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return [Path(line) for line in listed if (PROJECT / line).exists()]


def _functions(text: str) -> list[tuple[str, int]]:
    """Return name and lines of each function, its docstring not counted."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            if ast.get_docstring(node) is not None:
                doc = node.body[0]
                assert doc.end_lineno is not None
                length -= doc.end_lineno - doc.lineno + 1
            found.append((node.name, length))
    return found


def main() -> int:
    """Print the list; return 1 if one has no reason."""
    known, status = reasons(), 0
    for name, size in sorted(too_large().items(), key=lambda item: -item[1]):
        print(f'{size:5}  {name}  {known.get(name, "NO REASON")}')
        status |= name not in known
    return int(status)


if __name__ == '__main__':
    sys.exit(main())
