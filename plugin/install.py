"""The installation of all our patches in ExaBGP, once, in the necessary order."""

from __future__ import annotations

from plugin import patching
from plugin.commands import operate, route_injection, show
from plugin.configuration import (
    block_checks,
    environment,
    ikev2_section,
    keychain_section,
    line_numbers,
    loading,
    neighbors,
    several_files,
    validation,
)
from plugin.reactor import deferred_reload, hooks, lifecycle, steady_timers

PARTS = (
    environment,
    line_numbers,
    ikev2_section,
    block_checks,
    neighbors,
    keychain_section,
    loading,
    validation,
    several_files,
    route_injection,
    hooks,
    deferred_reload,
    lifecycle,
    steady_timers,
    show,
    operate,
)


def install() -> None:
    """Patch ExaBGP, after `compat.check`; a second call changes nothing."""
    if patching.installed():
        return
    for part in PARTS:
        part.install()
