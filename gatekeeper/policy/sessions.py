"""The configured sessions, and the peers that they are made with.

Plain data, made by a routing protocol's adapter from its configuration; no state here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gatekeeper.errors import PolicyError
from gatekeeper.policy.addresses import why_no_peer
from gatekeeper.policy.keychain import Keychain, KeychainError, check_keychain
from gatekeeper.policy.volume import Volume
from ikev2.authentication.auth import LocalCredential, PeerCredential
from ikev2.authentication.identity import Identity
from ikev2.authentication.ppk import Ppk
from ikev2.proposals.ike import IkePolicy
from tcpao.mkt import IPAddress

SHORTEST_LIFETIME = 15
"""Seconds: a rotation needs several round trips and probes at 1 s."""
LONGEST_LIFETIME = 2**32 - 1
"""Seconds: MKT_LIFETIME has four octets."""


IKE_LIFETIME = 4 * 3600
"""Seconds."""


@dataclass(frozen=True, slots=True)
class SessionId:
    """The identification of a session of a routing protocol: the SESSION_ID notify."""

    service: str
    """`bgp`"""
    name: str
    """The name for operators: `ipv4 unicast`; several families are joined by a comma."""
    families: tuple[tuple[int, int], ...] = ()
    """(AFI, SAFI), ascending."""

    def encode(self) -> bytes:
        """Return the number of families, AFI (2, network order) and SAFI (1) of each, then the
        service.

        The number is one octet; the service name is in ASCII.
        """
        families = b''.join(
            afi.to_bytes(2, 'big') + safi.to_bytes(1, 'big') for afi, safi in sorted(self.families)
        )
        return bytes((len(self.families),)) + families + self.service.encode('ascii')


@dataclass(frozen=True, slots=True)
class PadEntry:
    """The peer's identity and credential, and ours (RFC 4301 4.4.3)."""

    local_id: Identity
    peer_id: Identity
    local_credential: LocalCredential
    peer_credential: PeerCredential
    ike_port: int = 500
    """The peer's UDP port."""
    ike_policy: IkePolicy = field(default_factory=IkePolicy)
    ppk: Ppk | None = None
    """In addition to the credentials (RFC 8784)."""
    ike_lifetime: int = IKE_LIFETIME
    """Seconds; an IKE SA is rekeyed before this time. Has no effect on sessions."""
    reauthentication: int | None = None
    """Seconds that a proof of identity is valid; None: as long as its certificates."""
    liveness: int | None = None
    """Seconds of silence in IKE until the peer's liveness is checked; None: never."""

    @property
    def name(self) -> str:
        """Return the pair of identities, to which MKTs belong."""
        return f'{self.local_id} - {self.peer_id}'


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """One protected session: the part of a gatekeeper record that is configured."""

    key: str
    """Unique name of the session in the daemon."""
    neighbor: str
    """The neighbor in the operator's words."""
    session: SessionId
    local: IPAddress
    remote: IPAddress
    connect_port: int | None
    """The service port that we connect to; None for a session that only listens."""
    listen_port: int | None
    """The service port for the peer's SYN; None for a session that only connects."""
    pad: PadEntry | None
    """The peer to negotiate keys with; None if the operator gives the keys, in a keychain."""
    source_port: int | None = None
    """Pinned source port of our connections."""
    peer_port: int | None = None
    """Pinned source port of the peer's connections."""
    algorithms: tuple[str, ...] = ('hmac-sha-1-96', 'aes-128-cmac-96')
    """Acceptable suites, the most preferred first."""
    tcp_options: bool = True
    lifetime: int = 3600
    """Hard lifetime of an MKT, seconds."""
    volume: Volume | None = None
    """Lifetime of an MKT by volume; whichever of the two lifetimes comes first."""
    grace: int = 60
    """Limit on a rotation, seconds."""
    timeout: int = 30
    """Limit on one attempt to open the gate, seconds."""
    keychain: Keychain | None = None
    """In place of `pad`."""
    backend: str = 'auto'
    """The backend for the connection: kernel, userspace, or auto. The same for a whole daemon."""
    interface: str | None = None
    """The interface of the peer; a link-local address needs it (RFC 4007, 6)."""

    @property
    def entry(self) -> PadEntry:
        """Return the PAD entry of a session whose keys are negotiated."""
        assert self.pad is not None
        return self.pad


def by_peer(policies: Iterable[SessionPolicy]) -> dict[str, list[SessionPolicy]]:
    """Return the sessions with negotiated keys, by the name of their PAD entry."""
    found: dict[str, list[SessionPolicy]] = {}
    for policy in policies:
        if policy.pad is not None:
            found.setdefault(policy.pad.name, []).append(policy)
    return found


def check(policies: Iterable[SessionPolicy]) -> None:
    """Check that these policies can be served together. Raises PolicyError if not."""
    pads: dict[str, SessionPolicy] = {}
    owners: dict[IPAddress, SessionPolicy] = {}
    keys: set[str] = set()
    answers: dict[object, SessionPolicy] = {}
    sources: dict[object, SessionPolicy] = {}
    chains: dict[str, Keychain] = {}
    manual: dict[IPAddress, list[SessionPolicy]] = {}
    for policy in policies:
        if policy.key in keys:
            raise PolicyError(f'neighbor {policy.neighbor}: session {policy.key} twice')
        keys.add(policy.key)
        if policy.lifetime < SHORTEST_LIFETIME:
            raise PolicyError(
                f'neighbor {policy.neighbor} session {policy.session.name}: lifetime '
                f'{policy.lifetime} is shorter than {SHORTEST_LIFETIME} seconds'
            )
        if policy.lifetime > LONGEST_LIFETIME:
            raise PolicyError(
                f'neighbor {policy.neighbor} session {policy.session.name}: lifetime '
                f'{policy.lifetime} is longer than {LONGEST_LIFETIME} seconds'
            )
        if policy.local.version != policy.remote.version:
            raise PolicyError(
                f'neighbor {policy.neighbor}: {policy.local} and {policy.remote} are of '
                f'different families'
            )
        why = why_no_peer(policy.remote, policy.local)
        if why is not None:
            raise PolicyError(f'neighbor {policy.neighbor}: {why}: a session has one peer')
        if policy.pad is not None:
            _check_entry(policy, policy.pad, pads, owners)
        _check_keychain(policy, chains, manual)
        if policy.listen_port is not None:
            # The values by which a responder distinguishes sessions.
            port = policy.peer_port
            told = (
                policy.remote,
                policy.local,
                policy.listen_port,
                port if port is not None else _told_by(policy),
            )
            twin = answers.setdefault(told, policy)
            if twin is not policy:
                raise PolicyError(
                    f'neighbor {policy.neighbor}: sessions {twin.session.name} and '
                    f'{policy.session.name} cannot be told apart: give them peer-ports'
                )
        if policy.source_port is not None:
            source = (policy.local, policy.source_port, policy.remote, policy.connect_port)
            twin = sources.setdefault(source, policy)
            if twin is not policy:
                raise PolicyError(
                    f'neighbor {policy.neighbor}: sessions {twin.session.name} and '
                    f'{policy.session.name} both have source-port {policy.source_port}'
                )


def _told_by(policy: SessionPolicy) -> object:
    """Return what identifies a session if the peer's port doesn't: the SESSION_ID, or the
    keychain.
    """
    return policy.session.encode() if policy.keychain is None else policy.keychain.name


def _check_entry(
    policy: SessionPolicy,
    pad: PadEntry,
    pads: dict[str, SessionPolicy],
    owners: dict[IPAddress, SessionPolicy],
) -> None:
    if pad.local_id == pad.peer_id:
        # Otherwise our own messages, sent back to us, would authenticate.
        raise PolicyError(f'neighbor {policy.neighbor}: local-id and peer-id are the same identity')
    other = pads.setdefault(pad.name, policy)
    if other.pad != pad:
        raise PolicyError(
            f'neighbors {other.neighbor} and {policy.neighbor} have the same local-id and '
            f'peer-id but different credentials or IKE settings'
        )
    owner = owners.setdefault(policy.remote, policy)
    if owner.entry.name != pad.name:
        raise PolicyError(
            f'neighbors {owner.neighbor} and {policy.neighbor} have the address '
            f'{policy.remote} but different identities: an address belongs to one identity'
        )


def _check_keychain(
    policy: SessionPolicy,
    chains: dict[str, Keychain],
    manual: dict[IPAddress, list[SessionPolicy]],
) -> None:
    if (policy.keychain is None) == (policy.pad is None):
        raise PolicyError(
            f'neighbor {policy.neighbor} session {policy.session.name}: its keys are negotiated, '
            f'or come from a keychain: one of the two'
        )
    chain = policy.keychain
    if chain is None:
        return
    known = chains.get(chain.name)
    if known is None:
        try:
            check_keychain(chain)
        except KeychainError as error:
            raise PolicyError(str(error)) from None
        chains[chain.name] = chain
    elif known is not chain and known != chain:
        raise PolicyError(f'two keychains have the name {chain.name}')
    others = manual.setdefault(policy.remote, [])
    for other in others:
        _check_both(policy, chain, other)
    others.append(policy)


def _check_both(policy: SessionPolicy, chain: Keychain, other: SessionPolicy) -> None:
    """Check ids of two keychains towards one peer address, which share one space of ids."""
    assert other.keychain is not None
    if other.keychain is chain:
        return
    for key in chain.keys:
        for held in other.keychain.keys:
            if key.clashes(held):
                raise PolicyError(
                    f'neighbor {policy.neighbor}: {key} of keychain {chain.name} and {held} of '
                    f'keychain {other.keychain.name} have an id in common, towards one peer'
                )
