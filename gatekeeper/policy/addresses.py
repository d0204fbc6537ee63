"""Addresses as the gatekeeper compares them: without a zone, IPv4-mapped ones as IPv4."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address


def address_of(value: object) -> IPv4Address | IPv6Address:
    """An address as the gatekeeper wants it, from the adapter's or the socket's."""
    return _parsed(str(value))


# Whoever connects is looked for among all neighbors, who may be a thousand.
@lru_cache(maxsize=4096)
def _parsed(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text.partition('%')[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
