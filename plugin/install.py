"""The installation of all our patches in ExaBGP, once, in the necessary order."""

from __future__ import annotations

from plugin import patching
from plugin.commands import operate
from plugin.commands import route_injection as injecting
from plugin.commands import show as showing
from plugin.configuration import block_checks as blocks
from plugin.configuration import environment as surroundings
from plugin.configuration import ikev2_section as section
from plugin.configuration import keychain_section as keychains
from plugin.configuration import line_numbers as truelines
from plugin.configuration import loading as reloading
from plugin.configuration import neighbors, several_files, validation
from plugin.reactor import deferred_reload as postponing
from plugin.reactor import hooks, lifecycle, steady_timers

PARTS = (
    surroundings,
    truelines,
    section,
    blocks,
    neighbors,
    keychains,
    reloading,
    validation,
    several_files,
    injecting,
    hooks,
    postponing,
    lifecycle,
    steady_timers,
    showing,
    operate,
)


def install() -> None:
    """Patch ExaBGP, after `compat.check`; a second call changes nothing."""
    if patching.installed():
        return
    for part in PARTS:
        part.install()
