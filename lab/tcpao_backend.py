"""The option `--tcp-ao-backend` of the lab's tools, and the directive of the configuration behind
it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tcpao.backend import Preference

OPTION = '--tcp-ao-backend'
SECTION = 'ikev2 {'


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add the option; `backend` of the parser's result is a Preference."""
    parser.add_argument(
        OPTION,
        dest='backend',
        type=_preference,
        default=Preference.AUTO,
        metavar='|'.join(Preference),
        help="who signs and verifies segments: the kernel's TCP-AO, a process of ours behind a "
        'netfilter queue, or the kernel where it can (auto, the default)',
    )


def _preference(word: str) -> Preference:
    try:
        return Preference(word)
    except ValueError:
        words = ', '.join(Preference)
        raise argparse.ArgumentTypeError(f'{word!r} is unknown; one of {words}') from None


def under(text: str, backend: Preference) -> str:
    """Return a configuration whose neighbors use that backend, if it names none."""
    return text.replace(SECTION, f'{SECTION} tcp-ao-backend {backend};')


def put_under(folder: Path, backend: Preference) -> None:
    """Set the backend in every configuration of a folder, if it names none."""
    for path in folder.glob('*.conf'):
        path.write_text(under(path.read_text(), backend))
