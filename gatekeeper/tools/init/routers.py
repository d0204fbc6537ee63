"""The folders of two routers: keys and configuration, all new or none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gatekeeper.adapter.first_configuration import FirstConfiguration, Side
from gatekeeper.tools.errors import ToolError
from gatekeeper.tools.init.questions import PSK, Answers
from gatekeeper.tools.keygen import make_key_pair, make_psk

KEY_KIND = 'ed25519'


def write(answers: Answers, folder: Path, adapter: FirstConfiguration) -> list[Path]:
    """Write both routers' files below `folder` and return the two configurations.

    Raises ToolError if a folder of a router exists already, can't be written, or if the router
    would refuse its configuration; then nothing is left.
    """
    homes = [folder / router.name for router in (answers.local, answers.peer)]
    for home in homes:
        if home.exists():
            raise ToolError(f'{home} exists: nothing is ever overwritten')
    with _all_or_none(homes):
        keys = _write_keys(answers, homes)
        files = []
        ends = (answers.local, answers.peer)
        for number, home in enumerate(homes):
            side = Side(
                ends[number], ends[1 - number], answers.families, keys[number], listens=number == 1
            )
            path = home / adapter.file_name
            path.write_text(adapter.text(side))
            files.append(path)
        for path in files:
            why = adapter.why_invalid(path.resolve())
            if why is not None:
                raise ToolError(f'the router would refuse what was to be written: {why}')
    return files


@contextmanager
def _all_or_none(homes: list[Path]) -> Iterator[None]:
    """Make the folders; remove them with their content if something fails."""
    made: list[Path] = []
    try:
        for home in homes:
            home.mkdir(parents=True)
            made.append(home)
        yield
    except BaseException as error:
        for home in made:
            shutil.rmtree(home, ignore_errors=True)
        if isinstance(error, OSError):
            raise ToolError(f'cannot write {error.filename}: {error.strerror}') from None
        raise


def _write_keys(answers: Answers, homes: list[Path]) -> list[list[str]]:
    """Write the keys of both routers; return the directives of each that name them."""
    names = (answers.local.name, answers.peer.name)
    if answers.credential == PSK:
        name = f'{names[0]}-{names[1]}.psk'
        make_psk(homes[0] / name)
        # copy2 would set the mode after the copy, which would be readable until then.
        (homes[1] / name).touch(mode=0o600)
        shutil.copyfile(homes[0] / name, homes[1] / name)
        return [[f'psk-file "{name}";']] * 2
    for number, name in enumerate(names):
        make_key_pair(KEY_KIND, homes[number] / f'{name}.pem', homes[number] / f'{name}.pub')
        (homes[number] / f'{name}.pub').rename(homes[1 - number] / f'{name}.pub')
    return [
        [f'private-key "{names[number]}.pem";', f'peer-key "{names[1 - number]}.pub";']
        for number in (0, 1)
    ]
