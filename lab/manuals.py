"""Manual pages and shell completion of both commands, made from their parsers.

    python -m lab.manuals FOLDER

For packagers: pages go to FOLDER/man1, completion to FOLDER/bash-completion and FOLDER/zsh.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import shtab
from argparse_manpage.manpage import Manpage

from gatekeeper.tools.cli import parser as gatekeeper_parser
from gatekeeper.tools.version import DISTRIBUTION, version

SHELLS = {'bash': 'bash-completion/{name}', 'zsh': 'zsh/_{name}'}


def router_parser() -> argparse.ArgumentParser:
    """Return the parser of `exabgp-gatekeeper`, which is made inside ExaBGP's own command."""
    from exabgp.application.main import main

    found: list[argparse.ArgumentParser] = []

    def capture(self: argparse.ArgumentParser, *arguments: object, **named: object) -> None:
        found.append(self)
        # Stops ExaBGP's command here; the command takes an Exception for a wrong option.
        raise SystemExit

    with (
        patch.object(sys, 'argv', ['exabgp-gatekeeper', 'server', 'x']),
        patch.object(argparse.ArgumentParser, 'parse_args', capture),
        suppress(SystemExit),
    ):
        main()
    (parser,) = found
    parser.prog = 'exabgp-gatekeeper'
    return parser


COMMANDS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    'gatekeeper': gatekeeper_parser,
    'exabgp-gatekeeper': router_parser,
}


def page(name: str, parser: argparse.ArgumentParser) -> str:
    """Return the manual page in the format of man(7)."""
    parser.man_short_description = parser.description or name  # type: ignore[attr-defined]
    data = {
        'project_name': DISTRIBUTION,
        'version': version(),
        'long_description': '',
        'date': '',
        'authors': [],
        'url': '',
    }
    return str(Manpage(parser, _data=data))


def write(folder: Path) -> list[Path]:
    """Write everything below `folder`; return the files."""
    made: dict[Path, str] = {}
    for name, parser_of in COMMANDS.items():
        made[folder / 'man1' / f'{name}.1'] = page(name, parser_of())
        for shell, place in SHELLS.items():
            made[folder / place.format(name=name)] = shtab.complete(parser_of(), shell)
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return list(made)


if __name__ == '__main__':
    for written in write(Path(sys.argv[1])):
        print(written)
