"""The verb `init` of the command `gatekeeper`."""

from __future__ import annotations

import argparse
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from gatekeeper.adapter.first_configuration import GROUP, FirstConfiguration
from gatekeeper.tools.errors import ToolError
from gatekeeper.tools.init.questions import QUESTIONS, Answers, Question, answers_of
from gatekeeper.tools.init.routers import write


def add_verb(verbs: Any) -> None:
    """Add `init` to the subparsers of the command line."""
    verb = verbs.add_parser(
        'init',
        help='write a first configuration, and keys, for two routers',
        description='Asks at the terminal for what no option says. Never overwrites a file.',
    )
    verb.add_argument('folder', type=Path, help='where a folder for each router is made')
    for question in QUESTIONS:
        default = f' ({question.default})' if question.default else ''
        verb.add_argument(f'--{question.option}', help=question.text + default)
    verb.add_argument(
        '--family',
        action='append',
        metavar='"AFI SAFI"',
        help='repeated for more: each becomes a session with its own key ("ipv4 unicast")',
    )
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask, write, check, and print where each folder goes; return the exit status."""
    adapter = load_adapter()
    families = arguments.family or ['ipv4 unicast']
    for family in families:
        if family not in adapter.families:
            raise ToolError(f'--family {family!r}: one of {", ".join(adapter.families)}')
    given = {q.option: getattr(arguments, q.option.replace('-', '_')) for q in QUESTIONS}
    answers = answers_of(given, families, _ask if sys.stdin.isatty() else None)
    files = write(answers, arguments.folder, adapter)
    print('\n'.join(_what_goes_where(answers, files, adapter)))
    return 0


def load_adapter() -> FirstConfiguration:
    """Return the installed adapter. Raises ToolError if there is none."""
    for entry in metadata.entry_points(group=GROUP):
        made: FirstConfiguration = entry.load()()
        return made
    raise ToolError('no adapter for a router is installed here')


def _ask(question: Question, fault: str) -> str:
    if fault:
        print(fault)
    hint = f' [{question.default}]' if question.default else ''
    try:
        return input(f'{question.text}{hint}: ').strip()
    except EOFError:
        raise ToolError('the input ended before the last question') from None


def _what_goes_where(answers: Answers, files: list[Path], adapter: FirstConfiguration) -> list[str]:
    lines = []
    for router, path, role in zip(
        (answers.local, answers.peer), files, ('connects', 'listens'), strict=True
    ):
        lines.append(f'{path.parent}/ goes to {router.name} ({router.address}), which {role}:')
        for file in sorted(path.parent.iterdir()):
            lines.append(f'    {file.name:<30} mode {file.stat().st_mode & 0o777:04o}')
        lines.append(f'    start it there with: {adapter.start_command(Path(path.name))}')
    lines.append('Both configurations were checked. Copy keys by a safe way, with their modes.')
    return lines
