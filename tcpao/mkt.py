"""The Master Key Tuple (RFC 5925 3.1), the socket pair it protects, and the names of algorithms.

Data only: traffic keys are derived in `tcpao.kdf`, keys installed through `tcpao.installer`.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from keymaterial import Secret

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class SocketPair:
    """One TCP connection, seen from this host; ports in host byte order."""

    local: IPAddress
    local_port: int
    remote: IPAddress
    remote_port: int

    def __post_init__(self) -> None:
        if self.local.version != self.remote.version:
            raise ValueError(f'{self.local} and {self.remote} are of different families')
        for port in (self.local_port, self.remote_port):
            if not 0 < port < 65536:
                raise ValueError(f'{port} is not a TCP port')

    def reversed(self) -> SocketPair:
        """Return the same connection seen from the peer."""
        return SocketPair(self.remote, self.remote_port, self.local, self.local_port)

    def __str__(self) -> str:
        return (
            f'{endpoint(self.local, self.local_port)} -> {endpoint(self.remote, self.remote_port)}'
        )


@dataclass(frozen=True, slots=True)
class PeerPairs:
    """Every connection from a peer's prefix to one of our service ports.

    The peer's port and our address are arbitrary: for a manual key on listening sockets.
    """

    prefix: IPNetwork
    service_port: int

    def __post_init__(self) -> None:
        if not 0 < self.service_port < 65536:
            raise ValueError(f'{self.service_port} is not a TCP port')

    def __str__(self) -> str:
        return f'{self.prefix} -> port {self.service_port}'


def endpoint(address: IPAddress, port: int) -> str:
    """Return `10.0.0.1:179` or `[fd00::1]:179`."""
    return f'[{address}]:{port}' if address.version == 6 else f'{address}:{port}'


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A TCP-AO suite: a KDF and a MAC under the name that operators use."""

    name: str
    mac_length: int
    """Octets of the MAC in the option."""
    key_length: int
    """Octets of a negotiated master key."""
    linux_name: str | None
    """The kernel's name, None if the kernel has no such suite."""

    @property
    def backends(self) -> tuple[str, ...]:
        """Return the backends that have this suite; Capabilities tells which suites work on this
        host.
        """
        return ('userspace',) if self.linux_name is None else ('kernel', 'userspace')


ALGORITHMS: dict[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm('hmac-sha-1-96', 12, 20, 'hmac(sha1)'),
        Algorithm('aes-128-cmac-96', 12, 16, 'cmac(aes128)'),
        Algorithm('hmac-sha-256-96', 12, 32, 'hmac(sha256)'),
        Algorithm('hmac-sha-256-128', 16, 32, 'hmac(sha256)'),
        Algorithm('hmac-sha256-128-hkdf', 16, 32, None),
        Algorithm('kmac256-128', 16, 32, None),
    )
}


@dataclass(frozen=True, slots=True)
class Mkt:
    """A Master Key Tuple (RFC 5925 3.1) for one socket pair, or a manual one for PeerPairs.

    Equality is by identity name, which is unique.
    """

    identity: str
    """AdminKeyName (RFC 7210): unique in this process, without secrets."""
    protects: SocketPair | PeerPairs
    """The TCP connection identifier (RFC 5925 3.1)."""
    algorithm: Algorithm
    tcp_options: bool
    """True if the MAC covers TCP options other than TCP-AO (RFC 5925 3.1)."""
    send_id: int
    recv_id: int
    master_key: Secret
    not_after: float
    """End of the hard lifetime, seconds of CLOCK_BOOTTIME."""

    @property
    def pair(self) -> SocketPair:
        """Return the connection of an MKT that is for one only."""
        assert isinstance(self.protects, SocketPair)
        return self.protects

    @property
    def peer(self) -> IPNetwork:
        """Return the peer's address as a host prefix; for a manual key its prefix."""
        if isinstance(self.protects, PeerPairs):
            return self.protects.prefix
        return ip_network(self.protects.remote)

    def __eq__(self, other: object) -> bool:
        return self.identity == other.identity if isinstance(other, Mkt) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.identity)
