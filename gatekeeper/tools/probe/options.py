"""The options of `gatekeeper probe`, in the words of the configuration, and their meaning."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final, TypeVar

from gatekeeper.configuration.credentials import Credentials, DirectiveError, load
from gatekeeper.configuration.directive_table import TABLE, Directive, Role, default_of, of_role
from gatekeeper.configuration.values import WordError
from gatekeeper.policy.sessions import SessionId
from gatekeeper.tools.errors import ANY_OWNER, ToolError
from gatekeeper.tools.probe.families import family_codes
from ikev2.authentication.identity import Identity
from ikev2.errors import LocalError
from ikev2.events import RpSaRequest, Selector
from ikev2.peer import Peer
from ikev2.proposals.ike import IkePolicy
from ikev2.proposals.policies import POLICIES, policy_named
from keymaterial import Secret, read_public_file, read_secret_file
from tcpao.mkt import IPAddress

SERVICE: Final = 'bgp'
LONGEST_TIMEOUT: Final = 600
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
        '--ike-port',
        type=_typed(_port),
        default=default_of('ike-port'),
        metavar='PORT',
        help="the peer's; 500",
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
    for name in of_role(Role.CREDENTIAL):
        _add_directive(group, TABLE[name])


def _add_directive(group: argparse._ArgumentGroup, row: Directive) -> None:
    """Add the option of a directive, which takes the same words."""

    def parse(word: str) -> object:
        try:
            return row.parse((word,))
        except WordError as error:
            raise ValueError(f'{error.cause}; expected {error.expected}') from None

    option, placeholder, offer = f'--{row.name}', row.placeholder, row.offer
    if row.listed:
        offer += '; may be given several times'
        group.add_argument(
            option, type=_typed(parse), action='append', metavar=placeholder, help=offer
        )
    else:
        if row.default is not None:
            offer += f'; {row.default}'
        group.add_argument(option, type=_typed(parse), metavar=placeholder, help=offer)


def _said(arguments: argparse.Namespace, row: Directive) -> Any:
    """Return the value of an option, as the directive's; None if it is missing."""
    value = getattr(arguments, row.name.replace('-', '_'))
    if value is not None and row.listed:
        return tuple(one for several in value for one in several)
    return value


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
    for name in of_role(Role.NEGOTIATED):
        _add_directive(group, TABLE[name])


_OF_SESSIONS: Final = ('source-port', 'service-port', *of_role(Role.NEGOTIATED))


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
    for name in of_role(Role.CREDENTIAL):
        value = _said(arguments, TABLE[name])
        if value is not None:
            said[name] = value
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
            if getattr(arguments, name.replace('-', '_')) is not None:
                raise ToolError(f'--{name} means nothing without --session')
        return None
    families = tuple(sorted({family_codes(words) for words in arguments.session}))
    session = SessionId(SERVICE, '', families)
    service = Selector(remote, arguments.service_port or 179)
    if arguments.source_port == service.port:
        raise ToolError('--source-port is the service port, where nothing connects from')

    negotiated: dict[str, Any] = {
        name: default_of(name) if (value := _said(arguments, TABLE[name])) is None else value
        for name in of_role(Role.NEGOTIATED)
    }

    def make(ours: Selector) -> RpSaRequest:
        return RpSaRequest(
            keyid=1,
            suites=negotiated['algorithm'],
            tcp_options=negotiated['tcp-options'] == 'included',
            tsi=ours,
            tsr=service,
            session_id=session.encode(),
            lifetime=negotiated['lifetime'],
        )

    return make


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
