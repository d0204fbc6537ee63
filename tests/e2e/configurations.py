"""ExaBGP configuration files of the end-to-end tests, put together from what a test varies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lab.tcpao_backend import SECTION

FAMILIES = ('ipv4 unicast', 'ipv6 unicast')
ROUTES = {
    'r1': ('192.0.2.0/24 next-hop 10.0.0.1', '2001:db8:1::/48 next-hop fd00::1'),
    'r2': ('198.51.100.0/24 next-hop 10.0.0.2', '2001:db8:2::/48 next-hop fd00::2'),
}
NUMBERS = {'r1': 65001, 'r2': 65002, 'r3': 65003}
PREFIXES = {name: {route.split()[0] for route in routes} for name, routes in ROUTES.items()}

RAW_KEY = 'private-key "private.pem"; peer-key "peer.pub";'
PSK = 'psk-file "psk";'


def ikev2(
    local: str,
    remote: str,
    *,
    credential: str = PSK,
    lifetime: int = 600,
    timeout: int = 30,
    sessions: Mapping[str, str] | None = None,
) -> str:
    """An `ikev2` section; `sessions` gives the content of each session block."""
    blocks = ' '.join(f'session {family} {{ {text} }}' for family, text in (sessions or {}).items())
    return (
        f'    {SECTION}\n'
        f'        local-id fqdn "{local}.lab"; peer-id fqdn "{remote}.lab";\n'
        f'        {credential}\n'
        f'        lifetime {lifetime}; timeout {timeout};\n'
        f'        {blocks}\n'
        f'    }}\n'
    )


def neighbor(
    name: str,
    peer: str,
    *,
    local: str,
    remote: str,
    protection: str = '',
    passive: bool = False,
    families: Sequence[str] = FAMILIES,
    routes: Sequence[str] = (),
    hold_time: int = 180,
) -> str:
    """A neighbor block of router `name` for router `peer`; addresses are `local`, `remote`."""
    lines = [
        f'neighbor {remote} {{',
        f'    router-id 10.0.0.{name[-1]};',
        f'    local-address {local};',
        f'    local-as {NUMBERS[name]};',
        f'    peer-as {NUMBERS[peer]};',
        f'    hold-time {hold_time};',
        '    passive;' if passive else '',
        '    capability { multi-session; }' if protection else '',
        f'    family {{ {" ".join(f"{family};" for family in families)} }}',
        protection,
        f'    static {{ {" ".join(f"route {route};" for route in routes)} }}' if routes else '',
        '}',
    ]
    return '\n'.join(line for line in lines if line) + '\n'
