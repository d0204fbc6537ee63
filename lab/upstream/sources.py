"""The sources of ExaBGP's examples and tests; neither is kept in this repository.

The examples: the source distribution of the installed release. The suites: Debian's source package.
"""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path


def release() -> str:
    """Return the version of the installed ExaBGP."""
    return metadata.version('exabgp')


def distribution(folder: Path) -> Path:
    """Return the unpacked source distribution: examples, and what it has of tests.

    Raises CalledProcessError if the package index does not have it.
    """
    name = f'exabgp-{release()}'
    if not (folder / name).is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, '-m', 'pip', 'download', '-q', '--no-deps', '--no-binary', ':all:']
        subprocess.run([*pip, '-d', str(folder), f'exabgp=={release()}'], check=True)
        _unpack(folder / f'{name}.tar.gz', folder)
    return folder / name


def debian(folder: Path) -> tuple[Path | None, str]:
    """Return Debian's source of the installed release, or why there is none.

    The host needs a `deb-src` line of a Debian release that has this version.
    """
    folder.mkdir(parents=True, exist_ok=True)
    asked = subprocess.run(
        ['apt-get', 'source', '-q', '--download-only', f'exabgp={release()}-1'],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    found = sorted(folder.glob(f'exabgp_{release()}.orig.tar.*'))
    if asked.returncode != 0 or not found:
        return None, (asked.stderr.strip().splitlines() or ['apt-get source: nothing came'])[-1]
    _unpack(found[0], folder)
    return folder / f'exabgp-{release()}', ''


def _unpack(archive: Path, folder: Path) -> None:
    subprocess.run(['tar', '-xf', str(archive), '-C', str(folder)], check=True)
