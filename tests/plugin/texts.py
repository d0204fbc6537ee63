"""Configurations that tests start from."""

from __future__ import annotations

PSK = '6f1d8a40c57be29364fa0d8157c2b90e'
"""Worth its 128 bits."""

SECTION = """\
    ikev2 {
        local-id fqdn "r1.lab";
        peer-id fqdn "r2.lab";
        psk-file "r.psk";
    }
"""


def neighbor(
    section: str = SECTION,
    peer: str = '127.0.0.2',
    local: str = '127.0.0.1',
    families: str = 'ipv4 unicast;',
    more: str = '',
    multi_session: bool = False,
) -> str:
    """A neighbor block; `section` is its `ikev2` section, empty for an open one."""
    capability = '    capability { multi-session; }\n' if multi_session else ''
    family = f'    family {{ {families} }}\n' if families else ''
    return (
        f'neighbor {peer} {{\n'
        f'    router-id 10.0.0.1;\n'
        f'    local-address {local};\n'
        f'    local-as 65001;\n'
        f'    peer-as 65002;\n'
        f'{family}{capability}{section}{more}}}\n'
    )
