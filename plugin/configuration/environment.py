"""The settings `exabgp.ikev2.*` in ExaBGP's environment, shown by `exabgp env` and set in its
files.

ExaBGP reads its environment lazily, after it has looked at --env-file: so must we.
"""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path
from typing import Any

import exabgp
from exabgp.environment import Env, getenv, parsing

from gatekeeper.adapter.helper_access import closed_to
from plugin.patching import replace

DEFAULT_PORTS = (500, 4500)


class PortsError(ValueError):
    """The setting exabgp.ikev2.port is not two ports."""


def read_ports(text: str) -> tuple[int, int]:
    """Return two UDP ports. Raises PortsError."""
    words = text.replace(',', ' ').split()
    if len(words) == 2 and all(word.isdecimal() and word.isascii() for word in words):
        first, second = (int(word) for word in words)
        if 0 < first < 65536 and 0 < second < 65536 and first != second:
            return first, second
    raise PortsError(
        f'exabgp.ikev2.port is {text!r}; expected two UDP ports, for IKE and for IKE behind the '
        f'non-ESP marker: "500 4500"'
    )


def write_ports(ports: tuple[int, int]) -> str:
    """Return the ports in the form of `read_ports`."""
    return f"'{ports[0]} {ports[1]}'"


def daemon_user() -> int | None:
    """Return the user (uid) that the daemon becomes after its start: exabgp.daemon.user."""
    try:
        return pwd.getpwnam(getenv().daemon.user).pw_uid
    except KeyError:
        return None


def helper_obstacle() -> str | None:
    """Return what keeps ExaBGP's helper from starting once the privileges are dropped, or None.

    Without it ExaBGP stops every peer, and says only that it lost the helper of "this peer".
    """
    settings = getenv().daemon
    try:
        user = pwd.getpwnam(settings.user)
    except KeyError:
        return None
    if os.geteuid() != 0 or not settings.drop or user.pw_uid == 0:
        return None
    programs = (sys.executable, sys.argv[0], os.__file__, exabgp.__file__)
    closed = closed_to(
        user.pw_uid, {user.pw_gid, *os.getgroups()}, [Path(one) for one in programs if one]
    )
    if closed is None:
        return None
    return (
        f'user {settings.user}, which the daemon becomes, may not use {closed}, so its helper for '
        f'the command line cannot start and ExaBGP stops every peer: install it in an environment '
        f'outside, from a Python outside (/usr/bin/python3 -m venv /opt/gatekeeper), or set '
        f'exabgp.daemon.user'
    )


def _text(name: str) -> dict[str, Any]:
    return {'read': parsing.unquote, 'write': parsing.quote, 'value': '', 'help': name}


SECTION: dict[str, Any] = {
    'port': {
        'read': read_ports,
        'write': write_ports,
        'value': ' '.join(map(str, DEFAULT_PORTS)),
        'help': 'our UDP ports for IKEv2, two numbers',
    },
    'router': _text('name of this router in events, empty means the host name'),
    'timeline': _text('file to which events are appended as JSON lines'),
    'keytable': _text('file for ALL MASTER KEYS, for demonstrations and debugging only'),
    'secondnet': {
        'read': parsing.boolean,
        'write': parsing.lower,
        'value': 'true',
        'help': 'have the kernel drop what protected neighbors send, or get, without TCP-AO',
    },
    'metrics': _text('address and port for Prometheus, as 127.0.0.1:9179; empty means none'),
    'ikekeylog': _text("file for the KEYS OF ALL IKE SAs, as Wireshark's ikev2_decryption_table"),
}


def install() -> None:
    """Add our section whenever ExaBGP reads its environment."""
    original = Env.setup.__func__

    def setup(cls: Any, configuration: Any) -> Any:
        configuration.setdefault('ikev2', SECTION)
        try:
            return original(cls, configuration)
        except PortsError as error:
            # The environment is read at any time, from anywhere: this is the only way to report an
            # error.
            raise SystemExit(f'exabgp-gatekeeper: {error}') from None

    replace(Env, 'setup', classmethod(setup))
