"""The options of `gatekeeper probe`, in the words of the configuration, and their meaning."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final, TypeVar

from gatekeeper.configuration.credentials import CREDENTIAL, Credentials, DirectiveError, load
from gatekeeper.policy.sessions import SHORTEST_LIFETIME, SessionId
from gatekeeper.tools.errors import ANY_OWNER, ToolError
from ikev2.authentication.identity import Identity
from ikev2.authentication.signatures.keys import Fingerprint
from ikev2.constants import RP_SUITES
from ikev2.errors import LocalError
from ikev2.events import RpSaRequest, Selector
from ikev2.peer import Peer
from ikev2.proposals.ike import IkePolicy
from ikev2.proposals.policies import POLICIES, policy_named
from keymaterial import Secret, read_public_file, read_secret_file

IPAddress = IPv4Address | IPv6Address

SERVICE: Final = 'bgp'
LONGEST_TIMEOUT: Final = 600
DEFAULT_ALGORITHMS: Final = ('hmac-sha-1-96', 'aes-128-cmac-96')
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

_Value = TypeVar('_Value')


@dataclass(frozen=True, slots=True)
class Wanted:
    """The wanted probe."""

    remote: IPAddress
    interface: str | None
    """The interface of a link-local address (RFC 4007, 11)."""
    local: IPAddress | None
    """None: the address of the route."""
    local_id: Identity
    remote_id: Identity
    credentials: Credentials
    policy: IkePolicy
    policy_name: str
    ike_port: int
    local_ports: tuple[int, int]
    timeout: float
    request: Callable[[Selector], RpSaRequest] | None
    """Makes the request for our end of a connection; None if no key is wanted."""
    source_port: int
    """0: any free port."""
    ike_key_log: str | None
    json: bool

    def peer(self, local: IPAddress) -> Peer:
        """Return the peer for IKE, from this local address. Raises LocalError."""
        return Peer(
            name='peer',
            local_id=self.local_id,
            remote_id=self.remote_id,
            credential=self.credentials.local,
            remote_credential=self.credentials.peer,
            addresses=((local, self.remote),),
            remote_port=self.ike_port,
            policy=self.policy,
            ppk=self.credentials.ppk,
        )


def add_options(probe: argparse.ArgumentParser) -> None:
    """Add all options to the parser."""
    probe.add_argument('address', type=_typed(_peer), metavar='ADDRESS', help="the peer's")
    _add_ike(probe.add_argument_group('IKE, as in the ikev2 section'))
    _add_credentials(probe.add_argument_group('credentials, as in the ikev2 section'))
    _add_session(probe.add_argument_group('a TCP-AO key too'))
    probe.add_argument('--json', action='store_true', help='one JSON object a line')
    probe.add_argument(
        '--ike-key-log',
        metavar='FILE',
        help="a new private file for the KEYS of the IKE SA: Wireshark's ikev2_decryption_table",
    )


def _add_ike(group: argparse._ArgumentGroup) -> None:
    for name, whose in (('--local-id', 'ours'), ('--peer-id', "the peer's")):
        group.add_argument(
            name,
            nargs=2,
            required=True,
            metavar=('TYPE', 'VALUE'),
            help=f'{whose}: ip, fqdn, user-fqdn, key-id or dn, and a value',
        )
    group.add_argument(
        '--local-address', type=_typed(_address), metavar='ADDRESS', help='ours; default: by route'
    )
    group.add_argument('--ike-policy', choices=tuple(POLICIES), default='default')
    group.add_argument(
        '--ike-port', type=_typed(_port), default=500, metavar='PORT', help="the peer's; 500"
    )
    group.add_argument(
        '--local-ports',
        nargs=2,
        type=_typed(_port),
        default=(0, 0),
        metavar=('PORT', 'NATT-PORT'),
        help='our UDP ports; default: free ones, so that a daemon may have 500 and 4500',
    )
    group.add_argument(
        '--timeout',
        type=_typed(_timeout),
        default=10,
        metavar='SECONDS',
        help='how long to wait for the answer to a request; 10',
    )


def _add_credentials(group: argparse._ArgumentGroup) -> None:
    for name, what in (
        ('psk-file', 'the pre-shared key'),
        ('private-key', 'our private key'),
        ('certificate', 'our certificate, and the chain behind it'),
        ('peer-key', "the peer's public key"),
    ):
        group.add_argument(f'--{name}', metavar='FILE', help=what)
    group.add_argument(
        '--peer-fingerprint',
        type=_typed(Fingerprint.parse),
        metavar='sha256:HEX',
        help="of the peer's public key",
    )
    for name, what in (('trust-anchor', 'a CA of the peer'), ('crl', 'its revocation list')):
        group.add_argument(
            f'--{name}', action='append', metavar='FILE', help=f'{what}; may be given several times'
        )
    group.add_argument('--crl-required', choices=('true', 'false'))
    group.add_argument('--ppk-file', metavar='FILE', help='a post-quantum pre-shared key')
    group.add_argument('--ppk-id', metavar='NAME')
    group.add_argument('--ppk-required', choices=('true', 'false'))


def _add_session(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        '--session',
        nargs=2,
        action='append',
        metavar=('AFI', 'SAFI'),
        help='ask for a key for this session, and delete it again; several are one session with '
        'several families',
    )
    group.add_argument(
        '--source-port',
        type=_typed(_port),
        metavar='PORT',
        help="of the connection; default: a free one, unless the peer's session has a peer-port",
    )
    group.add_argument(
        '--service-port', type=_typed(_port), metavar='PORT', help="the peer's BGP port; 179"
    )
    group.add_argument(
        '--algorithm',
        action='append',
        choices=tuple(RP_SUITES),
        help='may be given several times, the most wanted first',
    )
    group.add_argument('--tcp-options', choices=('included', 'excluded'))
    group.add_argument('--lifetime', type=_typed(_lifetime), metavar='SECONDS', help='3600')


_OF_SESSIONS: Final = ('source_port', 'service_port', 'algorithm', 'tcp_options', 'lifetime')


def wanted(arguments: argparse.Namespace, at: float) -> Wanted:
    """Return the wanted probe; reads files. `at` is in seconds since the epoch.

    Raises ToolError.
    """
    local_id = _identity('--local-id', arguments.local_id)
    peer_id = _identity('--peer-id', arguments.peer_id)
    (remote, interface), local = arguments.address, arguments.local_address
    if local is not None and local.version != remote.version:
        raise ToolError(f'--local-address {local} and {remote} are of different families')
    first, second = arguments.local_ports
    if first and first == second:
        raise ToolError('--local-ports: two different ports are needed')
    try:
        policy = policy_named(arguments.ike_policy)
    except LocalError as error:
        raise ToolError(f'--ike-policy: {error}') from None
    return Wanted(
        remote=remote,
        interface=interface,
        local=local,
        local_id=local_id,
        remote_id=peer_id,
        credentials=_credentials(arguments, local_id, peer_id, at),
        policy=policy,
        policy_name=arguments.ike_policy,
        ike_port=arguments.ike_port,
        local_ports=(first, second),
        timeout=arguments.timeout,
        request=_request(arguments, remote),
        source_port=arguments.source_port or 0,
        ike_key_log=arguments.ike_key_log,
        json=arguments.json,
    )


class _Files:
    """A reader of the files that the options name."""

    def secret(self, directive: str, path: str) -> Secret:
        return read_secret_file(path, owners=ANY_OWNER)

    def public(self, directive: str, path: str, largest: int) -> bytes:
        return read_public_file(path, largest)


def _credentials(
    arguments: argparse.Namespace, local_id: Identity, peer_id: Identity, at: float
) -> Credentials:
    said: dict[str, Any] = {}
    for name in CREDENTIAL:
        value = getattr(arguments, name.replace('-', '_'))
        if value is not None:
            said[name] = tuple(value) if isinstance(value, list) else value
    try:
        return load(said, _Files(), local_id=local_id, peer_id=peer_id, at=at)
    except DirectiveError as fault:
        option = f'--{fault.directive}: ' if fault.directive else 'credentials: '
        beside = f' beside --{fault.beside}' if fault.beside else ''
        expected = f'; expected: {fault.expected}' if fault.expected else ''
        raise ToolError(f'{option}{fault.cause}{beside}{expected}') from None


def _request(
    arguments: argparse.Namespace, remote: IPAddress
) -> Callable[[Selector], RpSaRequest] | None:
    if arguments.session is None:
        for name in _OF_SESSIONS:
            if getattr(arguments, name) is not None:
                option = f'--{name.replace("_", "-")}'
                raise ToolError(f'{option} means nothing without --session')
        return None
    families = tuple(sorted({_pair(words) for words in arguments.session}))
    session = SessionId(SERVICE, '', families)
    service = Selector(remote, arguments.service_port or 179)
    if arguments.source_port == service.port:
        raise ToolError('--source-port is the service port, where nothing connects from')

    def make(ours: Selector) -> RpSaRequest:
        return RpSaRequest(
            keyid=1,
            suites=tuple(arguments.algorithm or DEFAULT_ALGORITHMS),
            tcp_options=arguments.tcp_options != 'excluded',
            tsi=ours,
            tsr=service,
            session_id=session.encode(),
            lifetime=arguments.lifetime or 3600,
        )

    return make


def _pair(words: list[str]) -> tuple[int, int]:
    return _code('AFI', words[0], _AFI, 65535), _code('SAFI', words[1], _SAFI, 255)


def _code(what: str, word: str, names: dict[str, int], highest: int) -> int:
    known = names.get(word.lower())
    if known is not None:
        return known
    if _NUMBER.fullmatch(word) and 0 < int(word) <= highest:
        return int(word)
    raise ToolError(f'--session: {word!r} is no {what}; it is a number or {", ".join(names)}')


def _identity(option: str, words: list[str]) -> Identity:
    kind, value = words
    try:
        return Identity.parse(kind, value)
    except (LocalError, ValueError) as error:
        raise ToolError(f'{option}: {error}') from None


# --- single words ----------------------------------------------------------------------------


def _typed(parse: Callable[[str], _Value]) -> Callable[[str], _Value]:
    """Return a parser for argparse whose error is the text of the original error."""

    def take(word: str) -> _Value:
        try:
            return parse(word)
        except (ValueError, LocalError) as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return take


def _peer(word: str) -> tuple[IPAddress, str | None]:
    """Parse `fe80::2%eth1`: a link-local address needs its interface."""
    text, _, interface = word.partition('%')
    address = _address(text)
    if address.is_link_local and address.version == 6:
        if not interface:
            raise ValueError(f'{word!r} needs its interface: {word}%eth1')
        return address, interface
    if interface:
        raise ValueError(f'{word!r} has an interface, and is not link-local')
    return address, None


def _address(word: str) -> IPAddress:
    address = ip_address(word)
    if address.is_multicast or address.is_unspecified or (address.version == 6 and '%' in word):
        raise ValueError(f'{word!r} is no address of one router')
    return address


def _whole(word: str, lowest: int, highest: int, what: str) -> int:
    if not _NUMBER.fullmatch(word) or not lowest <= int(word) <= highest:
        raise ValueError(f'{word!r} is no {what}, from {lowest} to {highest}')
    return int(word)


def _port(word: str) -> int:
    return _whole(word, 1, 65535, 'port')


def _timeout(word: str) -> int:
    return _whole(word, 1, LONGEST_TIMEOUT, 'number of seconds')


def _lifetime(word: str) -> int:
    return _whole(word, SHORTEST_LIFETIME, 2**32 - 1, 'number of seconds')
