"""ExaBGP's examples with every neighbor protected by a keychain, under the kernel's TCP-AO."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

KEYCHAIN = 'suites'
SECRET = b'a secret of nobody, for examples'
ALGORITHM = 'hmac-sha-1-96'
SEND_ID, RECV_ID = 1, 2
_NEIGHBOR = re.compile(r'(neighbor\s+[0-9a-fA-F.:]+\s*\{)')
_PEERS = {'127.0.0.1': '127.0.0.2', '::1': '::2'}
"""The examples' peers at our own address get another one: no router is its own neighbor."""

_FAMILIES = (
    *('ipv4 unicast', 'ipv4 multicast', 'ipv4 nlri-mpls', 'ipv4 mpls-vpn', 'ipv4 mcast-vpn'),
    *('ipv4 flow', 'ipv4 flow-vpn', 'ipv4 mup', 'ipv6 unicast', 'ipv6 nlri-mpls', 'ipv6 mpls-vpn'),
    *('ipv6 mcast-vpn', 'ipv6 mup', 'ipv6 flow', 'ipv6 flow-vpn', 'l2vpn vpls', 'l2vpn evpn'),
    *('bgp-ls bgp-ls', 'bgp-ls bgp-ls-vpn'),
)
"""All that ExaBGP can be configured with; a protected neighbor must name its families."""


def prepare(examples: list[Path], folder: Path) -> list[Path]:
    """Copy the examples and their helper programs, with peers at another address than ours."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(examples[0].parent, folder)
    for file in (*folder.glob('*.conf'), *folder.glob('run/*')):
        if file.is_file():
            file.write_text(_moved(file.read_text()))
    return [folder / one.name for one in examples]


def protected(example: Path) -> Path:
    """Write a twin of an example in which each neighbor has the keychain."""
    key = example.with_name('suites.key')
    key.write_bytes(SECRET)
    key.chmod(0o600)
    chain = (
        f'keychain {KEYCHAIN} {{ key 1 {{ send-id {SEND_ID}; recv-id {RECV_ID}; '
        f'algorithm {ALGORITHM}; key-file "{key}"; }} }}\n'
    )
    # TCP-MD5 and TCP-AO exclude each other.
    text = re.sub(r'^\s*md5-(password|ip)\b.*$', '', example.read_text(), flags=re.MULTILINE)
    text = re.sub(_NEIGHBOR, rf'\1\n\tkeychain {KEYCHAIN};', text)
    twin = example.with_suffix('.protected')
    twin.write_text(chain + text)
    return twin


def _moved(text: str) -> str:
    if not re.search(r'\bfamily\s*\{', text):
        families = ' '.join(f'{one};' for one in _FAMILIES)
        text = re.sub(_NEIGHBOR, rf'\1\n\tfamily {{ {families} }}', text)
    for own, other in _PEERS.items():
        text = re.sub(
            rf'\bneighbor(\s+){re.escape(own)}(?![0-9.:])', rf'neighbor\g<1>{other}', text
        )
    return text
