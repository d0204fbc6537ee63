"""Messages between the daemon and the packet process, there and back."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from keymaterial import Secret
from tcpao.installer import Cause
from tcpao.key_socket import InstalledKey, InstallError, SocketState
from tcpao.userspace.protocol import codec, messages
from tcpao.userspace.protocol.messages import Request
from tests.tcpao.userspace.packets import (
    a_pair,
    connection_name,
    key_of,
    listener_name,
    stored,
)

PAIR = a_pair()
NAME = connection_name(PAIR, 2**64 - 1)
LISTENER = listener_name(ip_address('::'), 7)
SECRET = b'\x00\xff{"a secret": 1}'
KEY = key_of(stored(PAIR, (255, 0), secret=SECRET, tcp_options=False))

REQUESTS: list[Request] = [
    messages.Listen(LISTENER),
    messages.Add(NAME, KEY, True, True),
    messages.Add(LISTENER, replace(KEY, pair=None, peer=ip_network('fd00::/64')), False, False),
    messages.Delete(NAME, ip_network('10.0.0.2'), 1, 2, None),
    messages.Delete(NAME, ip_network('10.0.0.2'), 1, 2, (5, 6)),
    messages.AddAll(
        (
            (LISTENER, KEY),
            (LISTENER, replace(KEY, pair=None, send_id=4)),
            (NAME, replace(KEY, master_key=Secret(b'of another length'))),
        )
    ),
    messages.AddAll(()),
    messages.DeleteAll(
        ((NAME, ip_network('10.0.0.2'), 1, 2), (LISTENER, ip_network('fd00::/64'), 0, 0))
    ),
    messages.SetRNext(NAME, 200),
    messages.Read(NAME),
    messages.Release(LISTENER),
    messages.Loaded(frozenset({ip_address('10.0.0.1'), ip_address('fd00::1')})),
    messages.Stop(),
]

REPLIES: list[messages.Reply] = [
    messages.Ready(7, 20000, 'nftables', frozenset({'hmac-sha-1-96'}), ('IPv6',), ('a rule',)),
    messages.NotReady('why'),
    messages.Done(),
    messages.refusal(InstallError(Cause.KEYID_IN_USE, 'taken')),
    messages.State(None),
    messages.State(SocketState(None, None, (), 0, 0)),
    messages.State(
        SocketState(1, 2, (InstalledKey(ip_network('fd00::/64'), 1, 2, True, False, 3, 4),), 5, 6)
    ),
    messages.Wait(),
]


@pytest.mark.parametrize('request_', REQUESTS, ids=lambda one: type(one).__name__)
def test_request_comes_back_as_it_was(request_: Request) -> None:
    octets = codec.encode(request_)
    assert len(octets) <= messages.LARGEST
    assert codec.decode(octets) == request_


@pytest.mark.parametrize('reply', REPLIES, ids=lambda one: type(one).__name__)
def test_reply_comes_back_as_it_was(reply: messages.Reply) -> None:
    assert codec.decode_reply(codec.encode_reply(reply)) == reply


@pytest.mark.parametrize('size', [1, messages.PIECE, messages.PIECE + 1, 3 * messages.PIECE])
def test_request_of_any_size_goes_in_pieces(size: int) -> None:
    octets = bytes(range(256)) * (size // 256) + bytes(size % 256)
    pieces = list(codec.pieces(octets))
    assert b''.join(piece[1:] for piece in pieces) == octets
    assert [piece[0] for piece in pieces] == [1] * (len(pieces) - 1) + [0]
    assert max(map(len, pieces)) <= 1 + messages.PIECE


def test_largest_state_fits() -> None:
    keys = tuple(
        InstalledKey(ip_network('fd00::/64'), i, i, False, False, 2**63, 2**63) for i in range(256)
    )
    reply = messages.State(SocketState(255, 255, keys, 2**63, 2**63))
    assert len(codec.encode_reply(reply)) <= messages.LARGEST


def test_secret_is_never_text() -> None:
    octets = codec.encode(messages.Add(NAME, KEY, True, True))
    text = octets[4 : 4 + int.from_bytes(octets[:4], 'big')]
    json.loads(text)
    assert octets == octets[: 4 + len(text)] + SECRET
    assert b'secret' not in text


@pytest.mark.parametrize('octets', [b'{"reply": "Nonsense"}', b'{}', b'nonsense', b'[]'])
def test_reply_is_refused_when_it_is_none(octets: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        codec.decode_reply(octets)
