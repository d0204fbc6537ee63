"""The command `exabgp-gatekeeper`: ExaBGP with the plugin; its subcommands and options are
unchanged.

Imports only the standard library until it has checked what it is about to import: the folder names
of our packages are generic, and a wrong mixture must be refused by name.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

PACKAGES = ('plugin', 'gatekeeper', 'ikev2', 'tcpao', 'keymaterial')

HELPER = 'exabgp_cli_pipe'
"""ExaBGP starts the process that serves its command line's pipes by running this script again, with
this variable in the environment."""


def home_of(packages: Iterable[str]) -> Path:
    """Return the directory that all our packages come from.

    Raises ImportError if there are several.
    """
    homes: dict[Path, str] = {}
    for name in packages:
        module = importlib.import_module(name)
        if module.__file__ is not None:
            home = Path(module.__file__).resolve().parent.parent
        else:
            # A folder without __init__ that has no file: namespace packages.
            home = Path(next(iter(module.__path__))).resolve().parent
        homes.setdefault(home, name)
    if len(homes) > 1:
        places = ', '.join(f'{name} from {home}' for home, name in homes.items())
        raise ImportError(
            f'the packages of exabgp-gatekeeper come from different directories ({places}): '
            f'something else installs a package of that name; use an environment of its own'
        )
    return next(iter(homes))


def settle_arguments() -> None:
    """Make sys.argv[0] a script that Python can run again.

    ExaBGP runs it for its helper, and derives its own directory from it.
    """
    script = Path(sys.argv[0])
    if script.resolve().parent == Path(__file__).resolve().parent:
        # `python -m plugin`: our package's folder must not be searched for modules.
        folder = str(Path(__file__).resolve().parent)
        sys.path[:] = [entry for entry in sys.path if not entry or Path(entry) != Path(folder)]
        os.environ.setdefault('EXABGP_ROOT', sys.prefix)
    if not script.is_file():
        sys.argv[0] = str(Path(__file__).resolve())
        os.environ.setdefault('EXABGP_ROOT', sys.prefix)


def _give_up(error: Exception) -> NoReturn:
    sys.stderr.write(f'exabgp-gatekeeper: {error}\n')
    sys.exit(1)


def main() -> int:
    """Run the console script; return the exit status."""
    settle_arguments()
    if sys.argv[1:] == ['--version']:
        # `exabgp --version` is an error in ExaBGP; the subcommand `version` stays ExaBGP's own.
        from importlib import metadata

        names = ('exabgp-gatekeeper', 'exabgp')
        print(', '.join(f'{name} {metadata.version(name)}' for name in names))
        return 0
    if not os.environ.get(HELPER):
        try:
            home_of(PACKAGES)
            _plug_in()
        except (ImportError, ValueError) as error:
            _give_up(error)
    from exabgp.application.main import main as exabgp

    return int(exabgp() or 0)


def _plug_in() -> None:
    from plugin import compat

    try:
        compat.check()
    except compat.IncompatibleError as error:
        _give_up(error)
    from plugin import install

    install.install()


if __name__ == '__main__':
    sys.exit(main())
