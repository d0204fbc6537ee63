"""Everything of ours put into ExaBGP, once, in the order in which it is needed."""

from __future__ import annotations

from plugin import (
    blocks,
    hooks,
    injecting,
    keychains,
    lifecycle,
    neighbors,
    patching,
    postponing,
    reloading,
    section,
    showing,
    surroundings,
    truelines,
)

PARTS = (
    surroundings,
    truelines,
    section,
    blocks,
    neighbors,
    keychains,
    reloading,
    injecting,
    hooks,
    postponing,
    lifecycle,
    showing,
)


def install() -> None:
    """Patch ExaBGP. Idempotent; `compat.check` comes first."""
    if patching.installed():
        return
    for part in PARTS:
        part.install()
