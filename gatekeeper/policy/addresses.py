"""Addresses as the gatekeeper compares them: without a zone, IPv4-mapped ones as IPv4."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final


def address_of(value: object) -> IPv4Address | IPv6Address:
    """An address as the gatekeeper wants it, from the adapter's or the socket's."""
    return _parsed(str(value))


_BROADCAST: Final = IPv4Address('255.255.255.255')
"""RFC 919 7. The broadcast address of a subnet is known to its interface only."""


def why_no_peer(remote: IPv4Address | IPv6Address, local: IPv4Address | IPv6Address) -> str | None:
    """Why an address is not that of one other host; None if it may be."""
    if remote.is_unspecified:
        return f'{remote} is the unspecified address'
    if remote.is_multicast:
        return f'{remote} is a multicast address'
    if remote == _BROADCAST:
        return f'{remote} is the broadcast address'
    # On a loopback address two daemons of one host are told apart by their ports.
    if remote == local and not remote.is_loopback:
        return f'{remote} is its own local-address'
    return None


# Whoever connects is looked for among all neighbors, who may be a thousand.
@lru_cache(maxsize=4096)
def _parsed(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text.partition('%')[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
