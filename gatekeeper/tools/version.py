"""The version of this distribution, for `--version`."""

from __future__ import annotations

from importlib import metadata

DISTRIBUTION = 'exabgp-gatekeeper'


def version() -> str:
    """Return the installed version; `unknown` if the code runs from a folder that isn't
    installed.
    """
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return 'unknown'
