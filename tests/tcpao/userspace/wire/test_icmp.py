"""ICMP errors about protected connections (RFC 5925 7.8)."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpao.userspace.connections.packet_path import PacketPath
from tests.tcpao.userspace.packets import (
    SYN,
    SYN_OPTIONS,
    TRUSTING,
    a_pair,
    checksum,
    connected,
    ends,
    no_mtu,
    packet,
)

ROUTER = {4: bytes((192, 0, 2, 1)), 6: bytes.fromhex('20010db8' + '0' * 23 + '1')}


def error(quoted: bytes, kind: int, code: int, rest: bytes = bytes(4)) -> bytes:
    """An ICMP error from a router, about a packet of ours."""
    version = quoted[0] >> 4
    us = quoted[12:16] if version == 4 else quoted[8:24]
    message = struct.pack('!BBH', kind, code, 0) + rest + quoted[:64]
    if version == 4:
        message = message[:2] + struct.pack('!H', checksum(message)) + message[4:]
        head = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(message), 1, 0, 60, 1, 0)
        head += ROUTER[4] + us
        return head[:10] + struct.pack('!H', checksum(head)) + head[12:] + message
    pseudo = ROUTER[6] + us + struct.pack('!II', len(message), 58)
    message = message[:2] + struct.pack('!H', checksum(pseudo + message)) + message[4:]
    return struct.pack('!IHBB', 0x60000000, len(message), 58, 60) + ROUTER[6] + us + message


HARD = [(4, 3, 2), (4, 3, 3), (4, 3, 4), (6, 1, 1), (6, 1, 4), (6, 2, 0)]
SOFT = [(4, 3, 0), (4, 3, 1), (4, 3, 13), (4, 11, 0), (6, 1, 0), (6, 1, 3), (6, 3, 0)]


def quoted_of(version: int) -> tuple[PacketPath, bytes]:
    client, _ = connected(version)
    sent = client.make()
    assert sent is not None
    return client.core, sent


@pytest.mark.parametrize(('version', 'kind', 'code'), HARD)
def test_hard_error_is_ignored_when_a_connection_is_established(
    version: int, kind: int, code: int
) -> None:
    core, sent = quoted_of(version)
    assert core.incoming(error(sent, kind, code)) is None
    assert core.tally.icmps == 1


@pytest.mark.parametrize(('version', 'kind', 'code'), SOFT)
def test_other_errors_pass(version: int, kind: int, code: int) -> None:
    core, sent = quoted_of(version)
    message = error(sent, kind, code)
    assert core.incoming(message) == message


@pytest.mark.parametrize(('version', 'kind', 'code'), HARD)
def test_hard_error_passes_before_the_handshake_is_over(version: int, kind: int, code: int) -> None:
    client, _ = ends(version)
    sent = client.make(SYN, SYN_OPTIONS)
    assert sent is not None
    message = error(sent, kind, code)
    assert client.core.incoming(message) == message


@pytest.mark.parametrize(('version', 'kind', 'code'), HARD)
def test_error_passes_when_it_is_about_anything_else(version: int, kind: int, code: int) -> None:
    core, _ = quoted_of(version)
    message = error(packet(a_pair(version, port=50000), 1), kind, code)
    assert core.incoming(message) == message


@given(st.sampled_from([4, 6]), st.data())
def test_error_passes_or_is_dropped_when_cut_short(version: int, data: st.DataObject) -> None:
    core, sent = quoted_of(version)
    message = error(sent, 3 if version == 4 else 1, 4)
    at = data.draw(st.integers(0, len(message)))
    core.incoming(message[:at])


@given(st.sampled_from([4, 6]), st.binary(max_size=120))
def test_any_icmp_passes_or_is_dropped(version: int, octets: bytes) -> None:
    head = bytearray(error(packet(a_pair(version), 1), 3, 4)[: 20 if version == 4 else 40])
    PacketPath(no_mtu, TRUSTING).incoming(bytes(head) + octets)


# --- quotes of what we never send -----------------------------------------------------------

HOP_BY_HOP = bytes((6, 1)) + bytes(14)
FRAGMENT = bytes((6, 0)) + bytes(6)
AUTHENTICATION = bytes((6, 1)) + bytes(10)


def with_extension(sent: bytes, kind: int, extension: bytes) -> bytes:
    return sent[:6] + bytes((kind,)) + sent[7:40] + extension + sent[40:]


def with_options(sent: bytes) -> bytes:
    return bytes((0x46,)) + sent[1:20] + b'\x01' * 4 + sent[20:]


@pytest.mark.parametrize(
    ('kind', 'extension'), [(0, HOP_BY_HOP), (60, HOP_BY_HOP), (44, FRAGMENT), (51, AUTHENTICATION)]
)
def test_error_is_ignored_when_its_quote_has_extensions(kind: int, extension: bytes) -> None:
    core, sent = quoted_of(6)
    assert core.incoming(error(with_extension(sent, kind, extension), 2, 0)) is None
    assert core.tally.icmps == 1


def test_error_is_ignored_when_its_quote_has_ipv4_options() -> None:
    core, sent = quoted_of(4)
    assert core.incoming(error(with_options(sent), 3, 4)) is None
    assert core.tally.icmps == 1


def test_error_passes_when_its_quote_ends_in_an_extension() -> None:
    core, sent = quoted_of(6)
    quoted = with_extension(sent, 0, bytes((0, 255)) + bytes(6))
    about = error(quoted, 2, 0)
    assert core.incoming(about) == about
