"""A path MTU that another process had the host learn, and sessions whose segments are longer."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from tcpao.userspace.client.backend import UserspaceBackend
from tests.tcpao.conftest import rule_kinds
from tests.tcpao.userspace.packets import ADDRESSES, checksum
from tests.tcpao.userspace.process.test_process import inject
from tests.tcpao.userspace.sites import End, Site, connect, protected, wait_until, wired
from tests.tcpao.userspace.wire.test_icmp import error

pytestmark = pytest.mark.native

IKE = 500
LEARNED = 1290
"""Octets; more than the smallest MTU of either family."""
SEGMENTS = 64 * 1024
"""Octets that take many full segments."""


@pytest.fixture
def ends() -> Iterator[tuple[End, End]]:
    with (
        wired() as (one, other),
        protected(one, UserspaceBackend(rule_kinds())) as client,
        protected(other, UserspaceBackend(rule_kinds())) as server,
    ):
        yield client, server


@contextmanager
def ike_socket(site: Site, version: int) -> Iterator[None]:
    """A socket whose packets an ICMP error may quote."""
    with site.inside():
        sock = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    with closing(sock):
        sock.bind((str(ADDRESSES[version][1]), IKE))
        yield


def datagram(version: int) -> bytes:
    """Return a datagram that the server might have sent by UDP."""
    to, source = (one.packed for one in ADDRESSES[version])
    udp = struct.pack('!HHHH', IKE, IKE, 1408, 0) + bytes(8)
    if version == 6:
        return struct.pack('!IHBB', 6 << 28, 1408, socket.IPPROTO_UDP, 64) + source + to + udp
    head = struct.pack('!BBHHHBBH', 0x45, 0, 1428, 1, 0x4000, 64, socket.IPPROTO_UDP, 0)
    head += source + to
    return head[:10] + struct.pack('!H', checksum(head)) + head[12:] + udp


@pytest.mark.parametrize('version', [4, 6])
def test_session_goes_on_when_a_forged_error_moves_path_mtu(
    ends: tuple[End, End], version: int
) -> None:
    client, server = ends
    one = connect(client, server, server.listen(ADDRESSES[version][1]), version)
    one.talk()
    kind, code = (3, 4) if version == 4 else (2, 0)
    forged = error(datagram(version), kind, code, struct.pack('!HH', 0, LEARNED))
    with ike_socket(server.site, version):
        inject(client.site, forged)
        towards = ('ip', 'route', 'get', str(ADDRESSES[version][0]))
        wait_until(lambda: f'mtu {LEARNED}' in server.site.run(*towards))
    one.near.settimeout(5)
    one.transfer(SEGMENTS, back=True)
    one.nothing_bad()
    one.close()
