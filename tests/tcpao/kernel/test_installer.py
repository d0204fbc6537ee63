"""The kernel's side of the installer: what only it has, beyond the conformance test.

Without the mark `kernel`: what needs no TCP-AO, on sockets of any Linux.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from keymaterial import Secret
from tcpao.installer import (
    Cause,
    Done,
    Failed,
    Guard,
    Install,
    KeyState,
    Probe,
    Prune,
    Read,
    Remove,
    SetRNext,
    Where,
)
from tcpao.kernel import installer as linux
from tcpao.kernel.abi import Option, TcpAoAdd, TcpAoGetsockopt, TcpAoInfoOpt
from tcpao.kernel.installer import LinuxInstaller, LinuxSocket, why_unsupported
from tcpao.key_socket import InstallError, Key
from tcpao.mkt import ALGORITHMS, Mkt, SocketPair
from tests.tcpao.benches import KernelBench
from tests.tcpao.test_installer_conformance import keeps_out

TCP_MD5SIG = 14
SECRET = b'the very octets of the key'
LOCALHOST = ip_address('127.0.0.1')


def key(send_id: int = 1, peer: str = '127.0.0.1/32', secret: bytes = SECRET) -> Key:
    return Key(
        ip_network(peer), send_id, send_id, ALGORITHMS['hmac-sha-1-96'], True, Secret(secret)
    )


def mkt(pair: SocketPair, ids: tuple[int, int] = (1, 2), secret: bytes = SECRET) -> Mkt:
    algorithm = ALGORITHMS['hmac-sha-1-96']
    return Mkt(f'{pair} {ids}', pair, algorithm, True, *ids, Secret(secret), not_after=0.0)


@pytest.fixture
def tcp() -> Iterator[Callable[[], socket.socket]]:
    made: list[socket.socket] = []

    def make(family: int = socket.AF_INET) -> socket.socket:
        made.append(socket.socket(family, socket.SOCK_STREAM))
        return made[-1]

    yield make
    for sock in made:
        sock.close()


@pytest.fixture
def plain_connection(
    tcp: Callable[[], socket.socket],
) -> Iterator[tuple[socket.socket, socket.socket, SocketPair]]:
    """An unprotected connection over loopback: client, server, pair of the client."""
    listener, client = tcp(), tcp()
    listener.bind(('127.0.0.1', 0))
    listener.listen()
    client.bind(('127.0.0.1', 0))
    client.connect(listener.getsockname())
    server, _ = listener.accept()
    server.settimeout(10)
    client.settimeout(10)
    pair = SocketPair(LOCALHOST, client.getsockname()[1], LOCALHOST, listener.getsockname()[1])
    yield client, server, pair
    server.close()


# --- without TCP-AO -------------------------------------------------------------------------


class FakeLibc:
    """Records what the system calls are given, and answers as told."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.buffers: list[tuple[int, Any, bytes]] = []

    def setsockopt(self, fd: int, level: int, option: int, value: Any, length: int) -> int:
        return self.answer(option, value)

    def getsockopt(self, fd: int, level: int, option: int, value: Any, length: Any) -> int:
        buffer = value._obj
        result = self.answer(option, value)
        if option == Option.GET_KEYS:
            buffer[0].nkeys = 1
            buffer[0].addr.octets[0] = socket.AF_INET
            buffer[0].prefix = 0
            ctypes.memmove(buffer[0].key, SECRET, len(SECRET))
        return result

    def answer(self, option: int, value: Any) -> int:
        self.buffers.append((option, value._obj, bytes(value._obj)))
        ctypes.set_errno(self.number)
        return -1 if self.number else 0


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeLibc:
    libc = FakeLibc()
    monkeypatch.setattr(linux, '_libc', libc)
    return libc


@pytest.mark.parametrize('number', [0, errno.EEXIST])
def test_buffer_is_wiped_when_it_held_a_key(
    fake: FakeLibc, tcp: Callable[[], socket.socket], number: int
) -> None:
    fake.number = number
    with suppress(InstallError):
        LinuxSocket(tcp()).add(key(), select=False)
    ((_, buffer, given),) = fake.buffers
    assert SECRET in given
    assert bytes(buffer) == bytes(ctypes.sizeof(TcpAoAdd))


def test_keys_are_wiped_when_the_kernel_handed_them_back(
    fake: FakeLibc, tcp: Callable[[], socket.socket]
) -> None:
    state = LinuxSocket(tcp()).read()
    assert state is not None
    assert len(state.keys) == 1
    buffer = fake.buffers[-1][1]
    assert not any(bytes(buffer))


def test_getsockopt_gets_zeros_except_for_the_request(
    fake: FakeLibc, tcp: Callable[[], socket.socket]
) -> None:
    LinuxSocket(tcp()).read()
    (_, _, info), (_, _, keys), (_, _, again) = fake.buffers
    assert info == again == bytes(ctypes.sizeof(TcpAoInfoOpt))
    request = TcpAoGetsockopt(nkeys=4, get_all=1)
    assert keys == bytes(request) + bytes(3 * ctypes.sizeof(TcpAoGetsockopt))


def test_kernel_gets_the_fields_of_a_key(fake: FakeLibc, tcp: Callable[[], socket.socket]) -> None:
    options_excluded = Key(
        ip_network('10.0.0.0/24'), 5, 6, ALGORITHMS['hmac-sha-256-128'], False, Secret(SECRET)
    )
    LinuxSocket(tcp()).add(options_excluded, select=True)
    given = TcpAoAdd.from_buffer_copy(fake.buffers[0][2])
    assert given.alg_name == b'hmac(sha256)'
    assert (given.sndid, given.rcvid, given.prefix, given.maclen) == (5, 6, 24, 16)
    assert (given.set_current, given.set_rnext, given.keyflags) == (1, 1, 2)
    assert (given.reserved, given.reserved2, given.ifindex) == (0, 0, 0)
    assert bytes(given.key)[: given.keylen] == SECRET


@pytest.mark.parametrize(
    ('number', 'cause', 'reason'),
    [
        (errno.ENOPROTOOPT, Cause.UNSUPPORTED, 'without TCP-AO'),
        (errno.ENOENT, Cause.UNSUPPORTED, 'lacks the hash or cipher'),
        (errno.EEXIST, Cause.KEYID_IN_USE, 'SendID or RecvID'),
        (errno.ENOMEM, Cause.NO_MEMORY, r'raise net\.core\.optmem_max \(now \d+\)'),
        (errno.EKEYREJECTED, Cause.REFUSED, 'TCP-MD5'),
        (errno.EISCONN, Cause.REFUSED, 'up without TCP-AO'),
        (errno.EMSGSIZE, Cause.REFUSED, 'does not fit'),
        (errno.EINVAL, Cause.REFUSED, 'peer, family or state'),
        (errno.EBADF, Cause.GONE, 'closed'),
        (errno.EIO, Cause.REFUSED, 'unexpected'),
    ],
)
def test_error_becomes_a_cause_and_a_reason(
    fake: FakeLibc, tcp: Callable[[], socket.socket], number: int, cause: Cause, reason: str
) -> None:
    fake.number = number
    with pytest.raises(InstallError, match=reason) as caught:
        LinuxSocket(tcp()).add(key(), select=False)
    assert caught.value.cause is cause
    assert errno.errorcode[number] in caught.value.text
    assert SECRET.decode() not in caught.value.text


def test_reason_names_no_key_when_a_suite_is_unsupported(fake: FakeLibc) -> None:
    fake.number = errno.ENOPROTOOPT
    assert why_unsupported('hmac-sha-1-96') == (
        'this kernel is built without TCP-AO (it takes Linux 6.7 or later with CONFIG_TCP_AO=y); '
        'asked for hmac-sha-1-96'
    )


@pytest.mark.parametrize('length', [0, 81])
def test_master_key_is_refused_when_linux_cannot_hold_it(
    tcp: Callable[[], socket.socket], length: int
) -> None:
    with pytest.raises(InstallError, match=f'this one has {length}'):
        LinuxSocket(tcp()).add(key(secret=bytes(length)), select=False)


def test_ipv6_peer_is_refused_on_an_ipv4_socket(tcp: Callable[[], socket.socket]) -> None:
    with pytest.raises(InstallError, match='no peer fd00::1'):
        LinuxSocket(tcp()).add(key(peer='fd00::1/128'), select=False)


def test_listener_is_refused_when_it_is_not_bound(tcp: Callable[[], socket.socket]) -> None:
    with pytest.raises(InstallError, match='bound to a port'):
        LinuxInstaller().add_listener(tcp())


def test_probing_is_restored_as_it_was(
    plain_connection: tuple[socket.socket, socket.socket, SocketPair],
) -> None:
    client, _, pair = plain_connection
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)
    options = [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
    ]
    before = [client.getsockopt(*option) for option in options]
    installer = LinuxInstaller()
    installer.add_connection(pair, client)
    for _ in range(2):
        installer.submit(Probe(pair, True))
    assert [client.getsockopt(*option) for option in options] == [1, 1, 1, 127]
    for _ in range(2):
        installer.submit(Probe(pair, False))
    assert [client.getsockopt(*option) for option in options] == before
    assert all(isinstance(event, Done) for event in installer.events())


class Dawdling(socket.socket):
    """The first probe leaves before the next option is set, as on a busy machine."""

    def setsockopt(self, *arguments: Any) -> None:
        super().setsockopt(*arguments)
        if arguments[1] == socket.TCP_KEEPIDLE:
            time.sleep(1.2)


def test_probe_is_followed_when_it_leaves_during_the_options(
    plain_connection: tuple[socket.socket, socket.socket, SocketPair],
) -> None:
    client, _, _ = plain_connection

    def sent() -> int:
        return int.from_bytes(
            client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 140)[136:], sys.byteorder
        )

    with Dawdling(fileno=os.dup(client.fileno())) as sock:
        before = sent()
        LinuxSocket(sock).probe(True)
        until = time.monotonic() + 30
        # The kernel would wait for 75 s.
        while sent() < before + 3:
            assert time.monotonic() < until, 'one probe and no more'
            time.sleep(0.05)


def test_abort_resets_and_leaves_the_descriptor_valid(
    plain_connection: tuple[socket.socket, socket.socket, SocketPair],
) -> None:
    client, server, _ = plain_connection
    number = client.fileno()
    LinuxSocket(client).abort()
    with pytest.raises(ConnectionResetError):
        server.recv(1)
    assert client.fileno() == number
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with pytest.raises(BrokenPipeError):
        client.send(b'never again')


def test_connection_is_gone_when_its_descriptor_is_reused(
    plain_connection: tuple[socket.socket, socket.socket, SocketPair],
    tcp: Callable[[], socket.socket],
) -> None:
    client, server, pair = plain_connection
    installer = LinuxInstaller()
    installer.add_connection(pair, client)
    # What a close() behind our back and another socket() would leave: same number, same object.
    socket.close(client.fileno())
    stranger = tcp()
    assert stranger.fileno() == client.fileno()
    installer.submit(Read(pair))
    (event,) = installer.events()
    assert isinstance(event, Failed)
    assert event.cause is Cause.GONE
    client.detach()
    del server


def test_fresh_socket_differs_from_a_dead_one(
    plain_connection: tuple[socket.socket, socket.socket, SocketPair],
    tcp: Callable[[], socket.socket],
) -> None:
    client, server, _ = plain_connection
    fresh = LinuxSocket(tcp())
    assert fresh.is_fresh()
    assert not fresh.is_dead()
    assert not LinuxSocket(client).is_fresh()
    assert not LinuxSocket(client).is_dead()
    LinuxSocket(server).abort()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert LinuxSocket(client).is_dead()
    assert not LinuxSocket(client).is_fresh()


@pytest.mark.parametrize(
    ('bound', 'v6only', 'receives'),
    [
        ('0.0.0.0', None, {'10.0.0.1'}),
        ('127.0.0.1', None, {'10.0.0.1'}),
        ('::', 1, {'fd00::1'}),
        ('::', 0, {'10.0.0.1', 'fd00::1'}),
        ('::1', 0, {'fd00::1'}),
        ('::ffff:127.0.0.1', 0, {'10.0.0.1'}),
    ],
)
def test_listener_hears_the_syns_of_its_addresses(
    bound: str, v6only: int | None, receives: set[str]
) -> None:
    family = socket.AF_INET if v6only is None else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        if v6only is not None:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        sock.bind((bound, 0))
        port = sock.getsockname()[1]
        listener = LinuxSocket(sock)
        for peer in ('10.0.0.1', 'fd00::1'):
            assert listener.can_receive_syn(ip_network(peer), None, port) == (peer in receives)
            assert not listener.can_receive_syn(ip_network(peer), None, port % 65535 + 1)


def test_specific_listener_hears_only_its_own_address() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind(('127.0.0.1', 0))
        listener, port = LinuxSocket(sock), sock.getsockname()[1]
        peer = ip_network('10.0.0.1')
        assert listener.can_receive_syn(peer, LOCALHOST, port)
        assert not listener.can_receive_syn(peer, ip_address('127.0.0.2'), port)


# --- with TCP-AO ----------------------------------------------------------------------------


@pytest.fixture
def kernel(kernel_namespace: None) -> Iterator[KernelBench]:
    bench = KernelBench(4)
    yield bench
    bench.close()


@pytest.mark.kernel
def test_suites_are_those_that_the_kernel_claims(kernel: KernelBench) -> None:
    capabilities = LinuxInstaller().capabilities()
    assert capabilities.backend == 'kernel'
    assert {'hmac-sha-1-96', 'aes-128-cmac-96'} <= capabilities.algorithms
    assert not capabilities.matches_ports
    assert not capabilities.counts_sent
    reason = why_unsupported('kmac256-128')
    assert reason is not None
    assert 'kmac256-128' in reason


@pytest.mark.kernel
def test_ao_required_stays_when_rnext_is_set(kernel: KernelBench) -> None:
    pair = SocketPair(kernel.a, 40001, kernel.b, 179)
    sock = kernel.bound(kernel.a, 40001)
    kernel.client.add_connection(pair, sock)
    required = TcpAoInfoOpt(ao_required=1, accept_icmps=1)
    sock.setsockopt(socket.IPPROTO_TCP, Option.INFO, bytes(required))
    for ids in ((1, 2), (3, 4)):
        kernel.client.submit(Install(mkt(pair, ids), Where.CONNECTION))
    kernel.client.submit(SetRNext(mkt(pair, (1, 2))))
    assert all(isinstance(event, Done) for event in kernel.client.events())
    info = LinuxSocket(sock)._info()
    assert info is not None
    assert (info.ao_required, info.accept_icmps, info.rnext, info.current_key) == (1, 1, 2, 3)


@pytest.mark.kernel
def test_busy_key_is_not_tried(kernel: KernelBench, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = SocketPair(kernel.a, 40001, kernel.b, 179)
    sock = kernel.bound(kernel.a, 40001)
    kernel.client.add_connection(pair, sock)
    kernel.client.submit(Install(mkt(pair), Where.CONNECTION))

    def delete(*_: object, **__: object) -> None:
        pytest.fail('even a refused delete takes the key off the list for a moment')

    monkeypatch.setattr(LinuxSocket, 'delete', delete)
    kernel.client.submit(Remove(mkt(pair), Where.CONNECTION))
    event = kernel.client.events()[-1]
    assert isinstance(event, Failed)
    assert event.cause is Cause.BUSY


@pytest.mark.kernel
def test_full_option_memory_is_explained_and_changes_nothing(kernel: KernelBench) -> None:
    sock = LinuxSocket(kernel.bound(kernel.b, 179))
    added: list[Key] = []

    def add_all() -> None:
        for number in range(1 << 16):
            another = key(peer=f'10.{number >> 8}.{number & 255}.1/32')
            sock.add(another, select=False)
            added.append(another)

    with pytest.raises(InstallError, match='optmem_max') as caught:
        add_all()
    assert caught.value.cause is Cause.NO_MEMORY
    state = sock.read()
    assert state is not None
    assert len(state.keys) == len(added)


@pytest.mark.kernel
def test_peer_gets_no_tcp_ao_when_it_has_an_md5_key(kernel: KernelBench) -> None:
    sock = kernel.bound(kernel.b, 179)
    address = socket.AF_INET.to_bytes(2, 'little') + bytes(2) + kernel.a.packed
    md5 = address.ljust(128, b'\0') + bytes(2) + (3).to_bytes(2, 'little') + bytes(4) + b'md5'
    sock.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG, md5.ljust(216, b'\0'))
    with pytest.raises(InstallError, match='TCP-MD5'):
        LinuxSocket(sock).add(key(peer=str(kernel.a)), select=False)


@pytest.mark.kernel
def test_child_is_pruned_when_it_has_more_keys_than_expected(kernel: KernelBench) -> None:
    listener = kernel.listen(kernel.b, 179)
    kernel.server.add_listener(listener.handle)
    pair = SocketPair(kernel.a, 40001, kernel.b, 179)
    for number in range(1, 12):
        kernel.server.submit(Install(mkt(pair.reversed(), (number, number)), Where.LISTENER))
    near = kernel.bind(pair)
    kernel.client.add_connection(pair, near.handle)
    kernel.client.submit(Install(mkt(pair, (7, 7)), Where.CONNECTION))
    assert near.connect()
    kernel.server.add_connection(pair.reversed(), listener.accept().handle)
    kernel.server.submit(Read(pair.reversed()))
    state = kernel.server.events()[-1]
    assert isinstance(state, KeyState)
    assert {k.send_id for k in state.keys} == set(range(1, 12))
    kernel.server.submit(Prune(mkt(pair.reversed(), (7, 7))))
    assert isinstance(kernel.server.events()[-1], Done)


@pytest.mark.kernel
def test_dual_stack_listener_guards_and_serves_both_families(kernel: KernelBench) -> None:
    sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(('::', 179))
    sock.listen()
    server = LinuxInstaller()
    server.add_listener(sock)
    six = KernelBench(6)
    for number, bench in enumerate((kernel, six)):
        peer = ip_network(bench.a)
        server.submit(Guard(peer, 179))
        keeps_out(bench, SocketPair(bench.a, 40100, bench.b, 179))
        pair = SocketPair(bench.a, 40001, bench.b, 179)
        ids = (10 + number, 20 + number)
        server.submit(Install(mkt(pair.reversed(), ids[::-1]), Where.LISTENER))
        near = bench.bind(pair)
        bench.client.add_connection(pair, near.handle)
        bench.client.submit(Install(mkt(pair, ids), Where.CONNECTION))
        assert near.connect()
        child, _ = sock.accept()
        server.add_connection(pair.reversed(), child)
        server.submit(Prune(mkt(pair.reversed(), ids[::-1])))
        server.submit(Remove(mkt(pair.reversed(), ids[::-1]), Where.LISTENER))
        near.send(b'hello')
        assert child.recv(5) == b'hello'
        server.submit(Read(pair.reversed()))
        *done, state = server.events()
        assert all(isinstance(event, Done) for event in done), done
        assert isinstance(state, KeyState)
        assert [(k.send_id, k.recv_id) for k in state.keys] == [ids[::-1]]
        child.close()
    six.close()
    sock.close()
