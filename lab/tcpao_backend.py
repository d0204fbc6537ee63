"""`--tcp-ao-backend`, an option of the lab's tools, and the word of the configuration behind it."""

from __future__ import annotations

import argparse
from pathlib import Path

from tcpao.backend import Preference

OPTION = '--tcp-ao-backend'
SECTION = 'ikev2 {'


def add_option(parser: argparse.ArgumentParser) -> None:
    """Who signs and verifies: `backend` of the result, a Preference."""
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
    """A configuration whose neighbors are protected by that backend; they said none."""
    return text.replace(SECTION, f'{SECTION} tcp-ao-backend {backend};')


def put_under(folder: Path, backend: Preference) -> None:
    """The same for every configuration in a folder."""
    for path in folder.glob('*.conf'):
        path.write_text(under(path.read_text(), backend))
