"""A first ExaBGP configuration with one protected neighbor, for `gatekeeper init`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from gatekeeper.adapter.first_configuration import Side

_TEMPLATE: Final = """\
# {local.name}: BGP with {peer.name} under TCP-AO keys negotiated by IKEv2, one for each family.

neighbor {peer.address} {{
    router-id {local.router_id};
    local-address {local.address};
    local-as {local.number};
    peer-as {peer.number};
{waiting}    capability {{ multi-session; }}
    family {{ {families} }}
    ikev2 {{
        local-id fqdn "{local.name}";
        peer-id fqdn "{peer.name}";
{credential}
    }}
}}
"""
_WAITING: Final = """\
    passive;
    listen 179;                      # {peer.name} connects
"""


class ExabgpConfiguration:
    """ExaBGP's part of `gatekeeper init`."""

    file_name = 'exabgp.conf'
    families = ('ipv4 unicast', 'ipv6 unicast', 'ipv4 flow', 'ipv6 flow')

    def text(self, side: Side) -> str:
        """Return the configuration file of one router."""
        return _TEMPLATE.format(
            local=side.local,
            peer=side.peer,
            waiting=_WAITING.format(peer=side.peer) if side.listens else '',
            families=' '.join(f'{family};' for family in side.families),
            credential='\n'.join(f'        {directive}' for directive in side.credential),
        )

    def why_invalid(self, path: Path) -> str | None:
        """Return the error of `exabgp-gatekeeper validate` for the file; None if valid."""
        done = subprocess.run(
            [sys.executable, '-m', 'plugin', 'validate', str(path)], capture_output=True, text=True
        )
        return None if done.returncode == 0 else (done.stderr or done.stdout).strip()

    def start_command(self, path: Path) -> str:
        """Return the command line that starts the router."""
        return f'exabgp-gatekeeper server {path}'
