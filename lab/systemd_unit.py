"""A command under the user, capabilities and environment of a systemd unit, by setpriv.

For hosts without systemd as init. systemd-analyze checks the settings that setpriv does not have
(namespaces of files, system call filters).
"""

from __future__ import annotations

from pathlib import Path


def read_unit(path: Path) -> dict[str, list[str]]:
    """Return the values of each setting of a unit file, in their order.

    An empty value removes the earlier ones (systemd.unit(5)).
    """
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        name, equals, value = line.partition('=')
        if not equals or line.startswith(('#', ';', '[')):
            continue
        if value:
            found.setdefault(name.strip(), []).append(value.strip())
        else:
            found[name.strip()] = []
    return found


def environment_of(unit: dict[str, list[str]]) -> dict[str, str]:
    """Return the environment variables that the unit sets."""
    pairs = (entry.partition('=') for line in unit.get('Environment', ()) for entry in line.split())
    return {name: value for name, _, value in pairs}


def as_unit(unit: dict[str, list[str]], user: str, group: str) -> tuple[str, ...]:
    """Return the prefix of a command line that gives it the unit's privileges as another user."""
    ambient, bounding = (
        ',+'.join(_capabilities(unit[setting]))
        for setting in ('AmbientCapabilities', 'CapabilityBoundingSet')
    )
    return (
        'setpriv',
        *(f'--reuid={user}', f'--regid={group}', '--clear-groups'),
        *(f'--inh-caps=-all,+{ambient}', f'--ambient-caps=-all,+{ambient}'),
        f'--bounding-set=-all,+{bounding}',
        *(['--no-new-privs'] if unit.get('NoNewPrivileges') == ['yes'] else []),
    )


def _capabilities(values: list[str]) -> list[str]:
    """Return the names in the form of setpriv."""
    return [name.removeprefix('CAP_').lower() for value in values for name in value.split()]
