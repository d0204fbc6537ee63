"""From ExaBGP's neighbors to the gatekeeper's session policies, and checks among them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from exabgp.environment import getenv

from gatekeeper.configuration.keychains import Chains
from gatekeeper.configuration.location import ConfigurationError
from gatekeeper.configuration.statements import Statement
from gatekeeper.errors import PolicyError
from gatekeeper.policy.addresses import address_of
from gatekeeper.policy.algorithm_support import check_possible
from gatekeeper.policy.keychain import Keychain
from gatekeeper.policy.sessions import SessionId, SessionPolicy, check
from plugin.configuration.neighbor_protection import Protection
from plugin.configuration.neighbors import protection_of, session_name, settings_of
from tcpao.backend import Preference

SERVICE = 'bgp'
BGP_PORT = 179
_IPV4_MAPPED = 0xFFFF << 32


def policies_of(neighbors: Mapping[str, Any], chains: Chains) -> list[SessionPolicy]:
    """Return one policy per gated session.

    Raises ConfigurationError if they can't be served together, or name a keychain that does not
    exist.
    """
    gated = {key: neighbor for key, neighbor in neighbors.items() if protection_of(neighbor)}
    _check_gating(neighbors.values())
    policies = [_policy(key, neighbor, chains) for key, neighbor in gated.items()]
    try:
        check(policies)
        check_possible(policies)
    except PolicyError:
        _blame(policies, gated)
        raise
    return policies


def _check_gating(neighbors: Iterable[Any]) -> None:
    """Check that a peer's address is gated everywhere: keys on a listener distinguish nothing else.

    Raises ConfigurationError.
    """
    open_ones = [neighbor for neighbor in neighbors if protection_of(neighbor) is None]
    for neighbor in neighbors:
        protection = protection_of(neighbor)
        if protection is None:
            continue
        address = _on_the_wire(neighbor)
        for other in open_ones:
            start = _on_the_wire(other)
            if start <= address < start + other.range_size:
                raise ConfigurationError(
                    protection.place,
                    'ikev2',
                    f'another neighbor block covers {neighbor["peer-address"]} without protection',
                    'all neighbor blocks of one peer address gated, or none',
                )


def _on_the_wire(neighbor: Any) -> int:
    """Return the peer's address as an IPv6 address: an IPv4-mapped one is that of an IPv4 peer."""
    address: int = neighbor['peer-address'].address()
    return address + _IPV4_MAPPED if neighbor['peer-address'].ipv4() else address


def _blame(policies: list[SessionPolicy], gated: Mapping[str, Any]) -> None:
    """Raise ConfigurationError with the first section that doesn't go with those before it."""
    good, bad = 0, len(policies)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if _why_not(policies[:middle]) is None else (good, middle)
    why = _why_not(policies[:bad])
    if why is not None:
        protection = protection_of(gated[policies[bad - 1].key])
        assert protection is not None
        raise ConfigurationError(protection.place, 'ikev2', str(why)) from None


def _why_not(policies: list[SessionPolicy]) -> PolicyError | None:
    try:
        check(policies)
        check_possible(policies)
    except PolicyError as error:
        return error
    return None


def _policy(key: str, neighbor: Any, chains: Chains) -> SessionPolicy:
    protection = protection_of(neighbor)
    assert protection is not None
    settings = settings_of(neighbor)
    listen = _listen_port(neighbor)
    connect = None if neighbor['passive'] or getenv().bgp.passive else connect_port(neighbor)
    _check_port(protection, 'source-port', settings.source_port, {connect, listen})
    _check_port(protection, 'peer-port', settings.peer_port, {listen})
    return SessionPolicy(
        key=key,
        neighbor=str(neighbor['peer-address']),
        session=SessionId(
            SERVICE,
            session_name(neighbor),
            tuple(sorted((int(afi), int(safi)) for afi, safi in neighbor.families())),
        ),
        local=address_of(neighbor['local-address']),
        remote=address_of(neighbor['peer-address']),
        connect_port=connect,
        listen_port=listen,
        pad=protection.pad if settings.keychain is None else None,
        source_port=settings.source_port,
        peer_port=settings.peer_port,
        algorithms=settings.algorithms,
        tcp_options=settings.tcp_options,
        lifetime=settings.lifetime,
        volume=settings.volume,
        grace=settings.grace,
        timeout=settings.timeout,
        backend=protection.backend,
        interface=neighbor['source-interface'] or None,
        keychain=_keychain(settings.keychain, chains),
    )


def unreachable(policies: Iterable[SessionPolicy]) -> list[PolicyError]:
    """Return an error for each session that neither connects nor listens, in this environment."""
    return [
        PolicyError(
            f'neighbor {policy.neighbor} is passive, and nothing listens for it: say listen and a '
            f'port in the neighbor, or set exabgp.tcp.bind to {policy.local}'
        )
        for policy in policies
        if policy.connect_port is None and policy.listen_port is None
    ]


def backend_of(policies: Iterable[SessionPolicy]) -> Preference:
    """Return the one backend that the neighbors want. Raises PolicyError if they don't agree."""
    wanted = {policy.backend: policy for policy in policies if policy.backend != Preference.AUTO}
    if len(wanted) > 1:
        one, other = (policy.neighbor for policy in wanted.values())
        raise PolicyError(
            f'neighbors {one} and {other} want different tcp-ao-backends: a daemon has one'
        )
    return Preference(next(iter(wanted), Preference.AUTO))


def _keychain(named: Statement | None, chains: Chains) -> Keychain | None:
    if named is None:
        return None
    found = chains.get(str(named.value))
    if found is None:
        there = ', '.join(sorted(chains)) or 'none is defined'
        raise ConfigurationError(
            named.place, f'keychain {named.value}', 'there is no such keychain', f'one of: {there}'
        )
    return found.keychain


def _check_port(
    protection: Protection, name: str, port: int | None, service: set[int | None]
) -> None:
    """Check a pinned port against the service port: ports tell which side opened a connection.

    Raises ConfigurationError.
    """
    if port is None or port not in service:
        return
    blocks = [block.directives.get(name) for block in protection.draft.sessions.values()]
    places = [one.place for one in blocks if one is not None and one.value == port]
    raise ConfigurationError(
        places[0], f'ikev2 {name}', f'{port} is the port of BGP', 'another port'
    )


def connect_port(neighbor: Any) -> int:
    """Return the port that ExaBGP connects to, by the rule of exabgp.reactor.protocol.Protocol."""
    if neighbor['connect']:
        return int(neighbor['connect'])
    for name in ('exabgp.tcp.port', 'exabgp_tcp_port'):
        value = os.environ.get(name, '')
        if value.isdigit():
            return int(value)
    return BGP_PORT


def _listen_port(neighbor: Any) -> int | None:
    """Return the port for this peer's SYN: its own, or that of the global bind; None if neither."""
    if neighbor['listen']:
        return int(neighbor['listen'])
    local = neighbor['local-address']
    for ip in getenv().tcp.bind:
        if ip.afi == local.afi and ip.top() in (local.top(), '0.0.0.0', '::'):
            return int(getenv().tcp.port)
    return None
