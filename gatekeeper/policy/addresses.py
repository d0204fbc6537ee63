"""Addresses in the gatekeeper's form: without a zone, IPv4-mapped ones as IPv4."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final


def address_of(value: object) -> IPv4Address | IPv6Address:
    """Return an address of the adapter or a socket in the gatekeeper's form."""
    return _parsed(str(value))


_BROADCAST: Final = IPv4Address('255.255.255.255')
"""RFC 919 7. Only its interface knows the broadcast address of a subnet."""


def why_no_peer(remote: IPv4Address | IPv6Address, local: IPv4Address | IPv6Address) -> str | None:
    """Return why an address cannot be that of another host; None if it can."""
    if remote.is_unspecified:
        return f'{remote} is the unspecified address'
    if remote.is_multicast:
        return f'{remote} is a multicast address'
    if remote == _BROADCAST:
        return f'{remote} is the broadcast address'
    # On a loopback address two daemons of one host are distinguished by their ports.
    if remote == local and not remote.is_loopback:
        return f'{remote} is its own local-address'
    return None


# The source of each connection is compared with all neighbors, of which there may be a thousand.
@lru_cache(maxsize=4096)
def _parsed(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text.partition('%')[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
