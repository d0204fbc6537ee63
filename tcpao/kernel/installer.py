"""The installer on Linux's own TCP-AO (6.7 and later with CONFIG_TCP_AO).

One socket's keys through setsockopt and getsockopt, and an installer over such sockets. The
kernel's options read the buffers that they are given even in getsockopt. Python's own
`socket.getsockopt` leaves these uninitialised, so the calls go through ctypes, with structures that
are zeroed and filled. Buffers that held a key are wiped.

Keys match by the peer's address, never by port: a listener's keys for one peer share one space of
KeyIDs, and a child inherits all of them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Final

from keymaterial import Secret
from tcpao.installer import Capabilities, Cause, Traffic
from tcpao.kernel.abi import (
    TCP_AO_MAXKEYLEN,
    KeyFlag,
    Option,
    TcpAoAdd,
    TcpAoDel,
    TcpAoGetsockopt,
    TcpAoInfoOpt,
    peer_network,
    peer_sockaddr,
)
from tcpao.kernel.errors import refusal
from tcpao.kernel.saved_syn import (
    forget_half_open_soon,
    refuse_cookies,
    refuse_unfinished,
    save_syns,
)
from tcpao.key_socket import InstalledKey, InstallError, Key, SocketState
from tcpao.mkt import ALGORITHMS, IPAddress, IPNetwork, SocketPair
from tcpao.socket_installer import SocketInstaller

# include/net/tcp_states.h; the first octet of TCP_INFO.
_TCP_CLOSE: Final = 7
# struct tcp_info: tcpi_state at 0, tcpi_segs_out and tcpi_segs_in (u32) from 136 on.
_TCP_INFO_LENGTH: Final = 144
_TCP_INFO_SEGMENTS: Final = 136
# tcpi_bytes_received (u64) at 128, the segments at 136, tcpi_bytes_sent (u64, Linux 4.19) at 200.
_TRAFFIC: Final = struct.Struct('=128xQII56xQ')

# A connection has two keys most of the time, three with a deny key that isn't pruned yet.
_EXPECTED_KEYS: Final = 4

# While a rotation runs. A lost probe must not end a session that BGP's hold time would keep, so the
# kernel may lose as many as it can count (MAX_TCP_KEEPCNT). Set in this order and reset in the
# other one: the first probe may be sent as soon as TCP_KEEPIDLE is set, and the wait for the next
# one is TCP_KEEPINTVL at that moment, 75 s by default.
_PROBE_OPTIONS: Final[tuple[tuple[int, int, int], ...]] = (
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 127),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1),
)

_LINGER_ABORT: Final = struct.pack('ii', 1, 0)

# Documentation address (RFC 5737): the key that tests the kernel's capabilities has no peer.
_NOBODY: Final = ip_network('192.0.2.1/32')

_libc = ctypes.CDLL(None, use_errno=True)
_libc.setsockopt.argtypes = (
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_uint32,
)
_libc.getsockopt.argtypes = (
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_uint32),
)
_libc.connect.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32)


class LinuxSocket:
    """A KeySocket on a TCP socket; only the owner closes the descriptor."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._before_probing: list[tuple[int, int, int]] | None = None

    # --- which socket this is ---------------------------------------------------------------

    def is_open(self) -> bool:
        return self._sock.fileno() != -1

    def carries(self, pair: SocketPair) -> bool:
        try:
            local, local_port = endpoint_of(self._sock.getsockname())
            # A socket that connects from a wildcard address gets its own address only then.
            if local_port != pair.local_port or (local != pair.local and any(local.packed)):
                return False
            return endpoint_of(self._sock.getpeername()) == (pair.remote, pair.remote_port)
        except OSError as error:
            return error.errno == errno.ENOTCONN

    def is_fresh(self) -> bool:
        closed, segments = self._tcp_info()
        return closed and not segments

    def is_dead(self) -> bool:
        closed, segments = self._tcp_info()
        return closed and bool(segments)

    def can_receive_syn(self, peer: IPNetwork, local: IPAddress | None, port: int) -> bool:
        bound, bound_port = endpoint_of(self._sock.getsockname())
        return (
            bound_port == port
            and peer.version in received_versions(self._sock)
            and (local is None or not any(bound.packed) or local == bound)
        )

    def _tcp_info(self) -> tuple[bool, int]:
        """Return True if TCP is in CLOSE, and the number of segments sent and received so far."""
        try:
            info = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_LENGTH)
        except OSError as error:
            raise refusal(error.errno, 'asking for the TCP state') from None
        sent, received = struct.unpack_from('=II', info, _TCP_INFO_SEGMENTS)
        return info[0] == _TCP_CLOSE, sent + received

    def traffic(self) -> Traffic:
        try:
            info = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TRAFFIC.size)
        except OSError as error:
            raise refusal(error.errno, "asking for TCP's counts") from None
        octets_in, segments_out, segments_in, octets_out = _TRAFFIC.unpack(info)
        return Traffic(segments_out + segments_in, octets_out + octets_in)

    # --- keys -------------------------------------------------------------------------------

    def add(self, key: Key, *, select: bool) -> None:
        name = key.algorithm.linux_name
        if name is None:
            raise InstallError(
                Cause.UNSUPPORTED, f'Linux has no {key.algorithm.name}: choose another algorithm'
            )
        if not 0 < len(key.master_key) <= TCP_AO_MAXKEYLEN:
            raise InstallError(
                Cause.REFUSED,
                f'Linux takes a master key of 1 to {TCP_AO_MAXKEYLEN} octets, '
                f'this one has {len(key.master_key)}',
            )
        command = TcpAoAdd(
            addr=self._sockaddr(key.peer),
            alg_name=name.encode(),
            set_current=select,
            set_rnext=select,
            prefix=key.peer.prefixlen,
            sndid=key.send_id,
            rcvid=key.recv_id,
            maclen=key.algorithm.mac_length,
            keyflags=KeyFlag(0) if key.tcp_options else KeyFlag.EXCLUDE_OPT,
            keylen=len(key.master_key),
        )
        try:
            ctypes.memmove(command.key, key.master_key.reveal(), len(key.master_key))
            self._set(
                Option.ADD_KEY,
                command,
                f'adding the {key.algorithm.name} key SendID {key.send_id} RecvID {key.recv_id} '
                f'for {key.peer}',
            )
        finally:
            _wipe(command)

    def delete(
        self, peer: IPNetwork, send_id: int, recv_id: int, switch_to: InstalledKey | None = None
    ) -> None:
        command = TcpAoDel(
            addr=self._sockaddr(peer), prefix=peer.prefixlen, sndid=send_id, rcvid=recv_id
        )
        if switch_to is not None:
            command.set_current = command.set_rnext = 1
            command.current_key = switch_to.send_id
            command.rnext = switch_to.recv_id
        self._set(
            Option.DEL_KEY, command, f'removing the key SendID {send_id} RecvID {recv_id} of {peer}'
        )

    def read(self) -> SocketState | None:
        info = self._info()
        if info is None:
            return None
        keys = self._keys()
        # After the keys' own, so that no segment under a removed key is missed.
        good = self._good()
        # Current may change between two calls; the keys' own flags are of one moment.
        return SocketState(
            current=next((key.send_id for key in keys if key.is_current), None),
            rnext=next((key.recv_id for key in keys if key.is_rnext), None),
            keys=keys,
            not_found=info.pkt_key_not_found,
            unsigned=info.pkt_ao_required,
            of_removed=max(0, good - sum(key.good for key in keys)),
        )

    def set_rnext(self, recv_id: int) -> None:
        info = self._info()
        if info is None:
            raise InstallError(Cause.GONE, 'the socket has no TCP-AO at all')
        # ao_required and accept_icmps are written on every call: return the values that were read.
        info.set_current = info.set_counters = 0
        info.set_rnext = 1
        info.rnext = recv_id
        self._set(Option.INFO, info, f'setting RNext to RecvID {recv_id}')

    def _good(self) -> int:
        """Return the number of good segments on this socket, whatever their key."""
        info = self._info()
        return 0 if info is None else info.pkt_good

    def _info(self) -> TcpAoInfoOpt | None:
        info = TcpAoInfoOpt()
        try:
            self._get(Option.INFO, info, ctypes.sizeof(info))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOPROTOOPT):
                return None
            raise refusal(error.errno, 'reading the TCP-AO state') from None
        return info

    def _keys(self) -> tuple[InstalledKey, ...]:
        room = _EXPECTED_KEYS
        while True:
            buffer = (TcpAoGetsockopt * room)()
            try:
                buffer[0].get_all = 1
                buffer[0].nkeys = room
                # The length is that of one element: it tells the kernel our structure's version.
                self._get(Option.GET_KEYS, buffer, ctypes.sizeof(TcpAoGetsockopt))
                count = int(buffer[0].nkeys)
                if count <= room:
                    return tuple(_installed(buffer[index]) for index in range(count))
            except OSError as error:
                raise refusal(error.errno, 'reading the keys') from None
            finally:
                _wipe(buffer)
            room = count

    # --- the connection ---------------------------------------------------------------------

    def probe(self, on: bool) -> None:
        if on:
            if self._before_probing is not None:
                return
            settings = _PROBE_OPTIONS
        elif self._before_probing is None:
            return
        else:
            settings = tuple(reversed(self._before_probing))
        try:
            before = [
                (level, option, self._sock.getsockopt(level, option))
                for level, option, _ in settings
            ]
            for level, option, value in settings:
                self._sock.setsockopt(level, option, value)
        except OSError as error:
            raise refusal(error.errno, 'setting keepalive') from None
        self._before_probing = before if on else None

    def abort(self) -> None:
        # close() would free the descriptor's number while its owner still uses it, and shutdown()
        # sends a FIN. Disconnecting (connect to AF_UNSPEC) is TCP's ABORT: it drops the queued
        # data, sends a signed RST now, and leaves the owner a valid descriptor that reads
        # ECONNRESET. The socket must never connect again. SO_LINGER makes sure that no later
        # close() is graceful, should the kernel refuse.
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ABORT)
        except OSError as error:
            raise refusal(error.errno, 'setting SO_LINGER') from None
        nowhere = (ctypes.c_uint8 * 16)()
        if _libc.connect(self._sock.fileno(), nowhere, len(nowhere)) != 0:
            raise refusal(ctypes.get_errno(), 'aborting the connection')

    # --- system calls -----------------------------------------------------------------------

    def _sockaddr(self, peer: IPNetwork) -> Any:
        try:
            return peer_sockaddr(peer, self._sock.family)
        except ValueError as error:
            raise InstallError(Cause.REFUSED, str(error)) from None

    def _set(self, option: Option, value: ctypes.Structure, what: str) -> None:
        if (
            _libc.setsockopt(
                self._sock.fileno(),
                socket.IPPROTO_TCP,
                option,
                ctypes.byref(value),
                ctypes.sizeof(value),
            )
            != 0
        ):
            raise refusal(ctypes.get_errno(), what, option)

    def _get(self, option: Option, buffer: Any, length: int) -> None:
        size = ctypes.c_uint32(length)
        if (
            _libc.getsockopt(
                self._sock.fileno(),
                socket.IPPROTO_TCP,
                option,
                ctypes.byref(buffer),
                ctypes.byref(size),
            )
            != 0
        ):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


class LinuxInstaller(SocketInstaller[socket.socket]):
    """The installer of the `kernel` backend."""

    def __init__(self) -> None:
        super().__init__(wrap=LinuxSocket)
        self._capabilities: Capabilities | None = None

    def add_listener(self, handle: socket.socket) -> None:
        """Manage a listener's keys; raises InstallError too if the socket is not bound to a
        port.
        """
        if handle.fileno() == -1 or endpoint_of(handle.getsockname())[1] == 0:
            raise InstallError(Cause.REFUSED, 'a listening socket must be bound to a port first')
        save_syns(handle)
        forget_half_open_soon(handle)
        super().add_listener(handle)

    def add_accepted(self, pair: SocketPair, handle: socket.socket) -> None:
        """Manage an accepted socket's keys; raises InstallError too if made from a SYN cookie, or
        from a SYN alone.
        """
        refuse_cookies(handle)
        refuse_unfinished(handle)
        super().add_accepted(pair, handle)

    def capabilities(self) -> Capabilities:
        """Return the capabilities of this kernel: each suite is tried on a test socket, once."""
        if self._capabilities is None:
            self._capabilities = Capabilities(
                backend='kernel',
                algorithms=frozenset(name for name in ALGORITHMS if why_unsupported(name) is None),
                matches_ports=False,
                counts_sent=False,
            )
        return self._capabilities


def why_unsupported(algorithm: str) -> str | None:
    """Return why the kernel does not support this suite; None if it does.

    `algorithm` as in ALGORITHMS.
    """
    suite = ALGORITHMS[algorithm]
    key = Key(
        peer=_NOBODY,
        send_id=1,
        recv_id=1,
        algorithm=suite,
        tcp_options=True,
        master_key=Secret(os.urandom(suite.key_length)),
    )
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        try:
            LinuxSocket(sock).add(key, select=False)
        except InstallError as error:
            # The operation, adding a test key, would only confuse an operator.
            return f'{error.meaning}; asked for {algorithm}'
        finally:
            key.master_key.wipe()
    return None


def received_versions(sock: socket.socket) -> frozenset[int]:
    """Return the IP versions of peers that a bound socket could receive from. Raises OSError."""
    bound, _ = endpoint_of(sock.getsockname())
    if sock.family == socket.AF_INET or bound.version == 4:
        return frozenset({4})
    if not any(bound.packed) and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        return frozenset({4, 6})
    return frozenset({6})


def endpoint_of(name: tuple[Any, ...]) -> tuple[IPAddress, int]:
    """Return address and port of getsockname() or getpeername(), IPv4-mapped addresses as IPv4."""
    # The scope of a link-local address isn't part of a pair.
    address: IPv4Address | IPv6Address = ip_address(str(name[0]).partition('%')[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address, int(name[1])


def _installed(key: TcpAoGetsockopt) -> InstalledKey:
    return InstalledKey(
        peer=peer_network(key.addr, key.prefix),
        send_id=key.sndid,
        recv_id=key.rcvid,
        is_current=bool(key.is_current),
        is_rnext=bool(key.is_rnext),
        good=key.pkt_good,
        bad=key.pkt_bad,
    )


def _wipe(buffer: Any) -> None:
    ctypes.memset(ctypes.byref(buffer), 0, ctypes.sizeof(buffer))
