"""AFI and SAFI of `--session`: names of configurations, or numbers."""

from __future__ import annotations

import re
from typing import Final

from gatekeeper.tools.errors import ToolError

# IANA's Address Family Numbers and SAFI Values, by their names in configurations.
_AFI: Final = {'ipv4': 1, 'ipv6': 2, 'l2vpn': 25, 'bgp-ls': 16388}
_SAFI: Final = {
    'unicast': 1,
    'multicast': 2,
    'nlri-mpls': 4,
    'mcast-vpn': 5,
    'vpls': 65,
    'evpn': 70,
    'bgp-ls': 71,
    'bgp-ls-vpn': 72,
    'mup': 85,
    'mpls-vpn': 128,
    'rtc': 132,
    'flow': 133,
    'flow-vpn': 134,
}
_NUMBER: Final = re.compile(r'[0-9]{1,10}', re.ASCII)


def family_codes(words: list[str]) -> tuple[int, int]:
    """Return IANA's numbers of AFI and SAFI. Raises ToolError."""
    return _code('AFI', words[0], _AFI, 65535), _code('SAFI', words[1], _SAFI, 255)


def _code(what: str, word: str, names: dict[str, int], highest: int) -> int:
    known = names.get(word.lower())
    if known is not None:
        return known
    if _NUMBER.fullmatch(word) and 0 < int(word) <= highest:
        return int(word)
    raise ToolError(f'--session: {word!r} is no {what}; it is a number or {", ".join(names)}')
