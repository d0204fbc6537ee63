"""Every way to protect r1's session with r2, and the walk through reloads from each to each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tcpao.verification.capture import read_packets
from tcpao.verification.segment import parse_ip
from tests.e2e.configurations import ikev2, neighbor
from tests.e2e.pair import R1, R2
from tests.e2e.router import Router

FAMILY = 'ipv4 unicast'
CHAIN = (
    'keychain core {\n'
    '  key 1 { send-id 1; recv-id 1; algorithm hmac-sha-1-96; key-file "core-1"; }\n'
    '}\n'
)
GATE_SECONDS = 5


class Kind(StrEnum):
    """The kinds of protection of a session."""

    PLAIN = 'plain'
    MD5 = 'md5'
    IKE = 'ike'
    OTHER_CREDENTIAL = 'other credential'
    KEYCHAIN = 'keychain'
    BROKEN = 'broken'
    """IKE with different secrets at both ends: no session comes up."""

    @property
    def is_ours(self) -> bool:
        """True if the session is to have TCP-AO."""
        return self not in (Kind.PLAIN, Kind.MD5)


def text(router: Router, kind: Kind, *, multi_session: bool = False) -> str:
    """r1 connects, r2 listens."""
    passive = router.name == 'r2'
    peer, local, remote = ('r1', R2, R1) if passive else ('r2', R1, R2)
    sections = {
        Kind.PLAIN: '',
        Kind.MD5: '    md5-password "an old one";\n',
        Kind.IKE: ikev2(router.name, peer, timeout=GATE_SECONDS),
        Kind.OTHER_CREDENTIAL: ikev2(
            router.name, peer, credential='psk-file "ppk";', timeout=GATE_SECONDS
        ),
        Kind.KEYCHAIN: '    ikev2 { keychain core; timeout 5; }\n',
        Kind.BROKEN: ikev2(
            router.name,
            peer,
            credential=f'psk-file "{"psk" if passive else "ppk"}";',
            timeout=GATE_SECONDS,
        ),
    }
    block = neighbor(
        router.name,
        peer,
        local=local,
        remote=remote,
        protection=sections[kind],
        passive=passive,
        families=[FAMILY],
    )
    if not (multi_session and kind.is_ours):
        block = block.replace('    capability { multi-session; }\n', '')
    return (CHAIN if kind is Kind.KEYCHAIN else '') + block


@dataclass(frozen=True, slots=True)
class Change:
    """A step of the walk."""

    before: Kind
    after: Kind


SHORT = (
    Kind.PLAIN,
    Kind.IKE,
    Kind.PLAIN,
    Kind.BROKEN,
    Kind.PLAIN,
    Kind.KEYCHAIN,
    Kind.MD5,
    Kind.IKE,
    Kind.OTHER_CREDENTIAL,
    Kind.KEYCHAIN,
    Kind.PLAIN,
)


def every_change() -> Iterator[Kind]:
    """A walk that makes each change from one kind to another once (Hierholzer's algorithm)."""
    left = {kind: [other for other in Kind if other is not kind] for kind in Kind}
    stack, walk = [Kind.PLAIN], []
    while stack:
        if left[stack[-1]]:
            stack.append(left[stack[-1]].pop())
        else:
            walk.append(stack.pop())
    return reversed(walk)


def in_clear(capture: Path, begin: float, end: float) -> list[str]:
    """Segments of BGP between r1 and r2 that carried octets without TCP-AO between two times."""
    found = []
    for packet in read_packets(capture):
        segment = parse_ip(packet.octets)
        if (
            segment is not None
            and segment.payload
            and 179 in (segment.source_port, segment.destination_port)
            and segment.ao_option() is None
            and begin <= packet.time <= end
        ):
            found.append(f'{packet.time:.3f} from port {segment.source_port}')
    return found
