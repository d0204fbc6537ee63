"""UDP sockets for an endpoint: the only module of this package that does I/O.

Does not wait and has no thread: the driver of the endpoint polls `filenos`, and calls `receive` and
`send`. Adds and removes the non-ESP marker (RFC 7296, 2.23), and sends answers from the address
that received the request.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from ikev2.constants import ExchangeType, HeaderFlag
from ikev2.errors import LocalError
from ikev2.events import Datagram, SendFailure

_MARKER = bytes(4)
_MARKERLESS_PORT = 500
_KEEPALIVE = b'\xff'  # RFC 3948, 2.3: keeps a NAT's mapping alive, no content
_LARGEST = 65535
_UNPROVEN = frozenset(
    bytes([kind])
    for kind in (ExchangeType.IKE_SA_INIT, ExchangeType.IKE_INTERMEDIATE, ExchangeType.IKE_AUTH)
)
_MOST_AT_ONCE = 64
_SO_RCVBUFFORCE = 33
_BUFFER = 1 << 20
"""Octets, which Linux doubles: some 2,700 short datagrams, in place of 277. Read at some 30
microseconds each, junk that fills it delays a true peer's datagram by a tenth of a second."""
# <linux/in.h>, <linux/in6.h>: missing in Python 3.11.
_IP_PKTINFO = 8
_IP_MTU_DISCOVER = 10
_IPV6_MTU_DISCOVER = 23
_PMTUDISC_DONT = 0
_IP_RECVERR = 11
_IPV6_RECVERR = 25
_RECVERR = {(socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)}
# <linux/errqueue.h>: struct sock_extended_err, of which errno and origin are read.
_EXTENDED_ERROR = struct.Struct('=IB')
_FROM_KERNEL = 1
"""SO_EE_ORIGIN_LOCAL: sendmsg() has reported the error already."""
_ICMP = {errno.ECONNREFUSED: 'port unreachable'}
_QUOTE = 128
_MOST_FAILURES = 16
"""Failures of different kinds that are kept between two calls."""
_IN_PKTINFO = struct.Struct('=i4s4s')
_IN6_PKTINFO = struct.Struct('=16si')


class UdpError(LocalError):
    """A port can't be opened; the text names the port, the reason and what to do."""


class UdpSockets:
    """Both ports, over IPv4 and IPv6, on all addresses of this host (of this namespace).

    Raises UdpError. IPv6 is left out where the kernel has none; `families` tells. A port 0 is any
    free port, of one family only; `ports` has the number of the port.
    """

    def __init__(
        self,
        ports: tuple[int, int] = (500, 4500),
        families: Iterable[int] = (socket.AF_INET, socket.AF_INET6),
        device: str | None = None,
    ) -> None:
        """Open the sockets. Raises UdpError.

        With a `device`, receive only datagrams that arrive by that interface, or by a VRF of that
        name. Open them only while the sockets without a device are `sharing` their ports.
        """
        self.ports = ports
        self.device = device
        self.families: tuple[int, ...] = ()
        self._failures: list[SendFailure] = []
        self._sockets: dict[tuple[int, int], socket.socket] = {}
        self._interfaces: dict[IPv6Address, str] = {}
        try:
            for family in families:
                self._open(family)
        except UdpError:
            self.close()
            raise
        if not self._sockets:
            raise UdpError('this host has neither IPv4 nor IPv6')

    def filenos(self) -> list[int]:
        """Return the descriptors to poll for input."""
        return [one.fileno() for one in self._sockets.values()]

    @contextmanager
    def sharing(self) -> Iterator[None]:
        """Let sockets of a device bind to the same ports within this context, and none
        afterwards.
        """
        try:
            self._share(1)
            yield
        finally:
            self._share(0)

    def _share(self, value: int) -> None:
        for one in self._sockets.values():
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, value)

    def use_zones(self, interfaces: Mapping[IPv6Address, str]) -> None:
        """Set the interface of each link-local peer (RFC 4007, 6).

        The kernel does not send to a link-local address without an interface.
        """
        self._interfaces = dict(interfaces)

    def close(self) -> None:
        """Close all sockets."""
        for one in self._sockets.values():
            one.close()
        self._sockets.clear()

    def take_failures(self) -> list[SendFailure]:
        """Return datagrams that were refused since the last call; IKE repeats them by itself."""
        taken, self._failures = self._failures, []
        return taken

    def receive(self) -> list[Datagram]:
        """Return received datagrams, up to 64 per socket: poll tells if there are more.

        Datagrams of the lowest priority come last.
        """
        found: list[Datagram] = []
        for (family, port), one in self._sockets.items():
            self._read_errors(family, one)
            for _ in range(_MOST_AT_ONCE):
                try:
                    data, ancillary, flags, source = one.recvmsg(_LARGEST, 128)
                except BlockingIOError:
                    break
                except OSError:
                    # An ICMP error that another host sent us, which is in the error queue too.
                    continue
                datagram = _arrived(family, port, data, ancillary, flags, source)
                if datagram is not None and self._is_in_zone(datagram, source):
                    found.append(datagram)
        return sorted(found, key=_can_wait)

    def send(self, datagram: Datagram) -> None:
        """Send from the datagram's local address and port.

        A datagram that the kernel refuses is lost, as on the way; `take_failures` returns the
        reason.
        """
        data = datagram.data
        if _MARKERLESS_PORT not in (datagram.local_port, datagram.remote_port):
            data = _MARKER + data
        local = datagram.local
        zone = self._zone(datagram.remote)
        if isinstance(local, IPv4Address):
            key = socket.AF_INET, datagram.local_port
            info = (
                socket.IPPROTO_IP,
                _IP_PKTINFO,
                _IN_PKTINFO.pack(0, local.packed, bytes(4)),
            )
        else:
            key = socket.AF_INET6, datagram.local_port
            packed = _IN6_PKTINFO.pack(local.packed, zone)
            info = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, packed)
        one = self._sockets.get(key)
        if one is None:
            self._failed(datagram, f'no socket on port {datagram.local_port} for {local}')
            return
        to = str(datagram.remote), datagram.remote_port, *((0, zone) if zone else ())
        try:
            one.sendmsg([data], [info], 0, to)
        except OSError:
            # With IP_RECVERR a send also fails for an ICMP error about an earlier datagram.
            self._read_errors(key[0], one)
            try:
                one.sendmsg([data], [info], 0, to)
            except OSError as error:
                self._failed(datagram, f'{local} to {datagram.remote}: {error.strerror}')

    def _zone(self, remote: IPv4Address | IPv6Address) -> int:
        """Return the index of the interface of a link-local peer.

        0 for every other address, and if there is no such interface now.
        """
        name = self._interfaces.get(remote) if isinstance(remote, IPv6Address) else None
        if name is None:
            return 0
        try:
            return socket.if_nametoindex(name)
        except OSError:
            return 0

    def _is_in_zone(self, datagram: Datagram, source: tuple[Any, ...]) -> bool:
        """Return False if a link-local peer's address sends by another interface: that is another
        host.
        """
        zone = self._zone(datagram.remote)
        return not zone or source[3] == zone

    def _failed(self, datagram: Datagram, text: str) -> None:
        failure = SendFailure(datagram.remote, text, False)
        self._note(failure)

    def _note(self, failure: SendFailure) -> None:
        if failure not in self._failures and len(self._failures) < _MOST_FAILURES:
            self._failures.append(failure)

    def _read_errors(self, family: int, one: socket.socket) -> None:
        """Read ICMP errors about our datagrams; unread ones would wake the poll for ever."""
        for _ in range(_MOST_AT_ONCE):
            try:
                _, ancillary, _, source = one.recvmsg(_QUOTE, 512, socket.MSG_ERRQUEUE)
            except OSError:
                return
            for level, kind, octets in ancillary:
                if (level, kind) not in _RECVERR or len(octets) < _EXTENDED_ERROR.size:
                    continue
                number, origin = _EXTENDED_ERROR.unpack_from(octets)
                if origin == _FROM_KERNEL:
                    continue
                remote = IPv4Address(source[0]) if family == socket.AF_INET else _ipv6(source[0])
                text = _ICMP.get(number, os.strerror(number).lower())
                text = f'{text} ({remote} UDP port {source[1]})'
                self._note(SendFailure(remote, text, True, number == errno.ECONNREFUSED))

    def _open(self, family: int) -> None:
        for index, wanted in enumerate(self.ports):
            try:
                one = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            except OSError as error:
                if error.errno == errno.EAFNOSUPPORT:
                    return
                raise UdpError(f'cannot make a UDP socket: {error.strerror}') from None
            try:
                _configure(one, family)
                if self.device is not None:
                    _bind_to_device(one, self.device)
                one.bind(('' if family == socket.AF_INET else '::', wanted))
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            except OSError as error:
                one.close()
                raise UdpError(_why_not(wanted, error)) from None
            port: int = one.getsockname()[1]
            self._sockets[family, port] = one
            if not wanted:
                first, second = self.ports
                self.ports = (first, port) if index else (port, second)
        self.families += (family,)


def _configure(one: socket.socket, family: int) -> None:
    _enlarge_buffer(one)
    # No DF bit: IKE messages may be longer than a path's MTU, and IKE looks for no MTU.
    if family == socket.AF_INET:
        one.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        one.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        one.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT)
    else:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        one.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        one.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT)


def _enlarge_buffer(one: socket.socket) -> None:
    """Let a thousand peers' first messages wait, above net.core.rmem_max if we may (root)."""
    try:
        one.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    except PermissionError:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)


def _bind_to_device(one: socket.socket, device: str) -> None:
    """Bind a socket to a device.

    Without this, datagrams that arrive by an interface of a VRF reach no socket
    (udp_l3mdev_accept). Datagrams that are sent are not routed in the VRF either.
    """
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b'\0')


def _why_not(port: int, error: OSError) -> str:
    text = f'cannot use UDP port {port}: {os.strerror(error.errno or 0)}'
    if error.errno == errno.EADDRINUSE:
        return f'{text}; stop the other IKE daemon, or configure other ports'
    if error.errno == errno.EACCES:
        return f'{text}; ports below 1024 need root or CAP_NET_BIND_SERVICE'
    return text


def _can_wait(datagram: Datagram) -> bool:
    """Return True if a datagram asks for work for an unauthenticated peer.

    Messages of IKE SAs that are up, rekeys above all, are served first. Answers to our own requests
    keep their order.
    """
    kind, flags = datagram.data[18:19], datagram.data[19:20]
    return kind in _UNPROVEN and not (flags and flags[0] & HeaderFlag.RESPONSE)


def _arrived(
    family: int,
    port: int,
    data: bytes,
    ancillary: list[tuple[int, int, bytes]],
    flags: int,
    source: tuple[str, int],
) -> Datagram | None:
    """Return the datagram; None if it can't be IKE, or if its destination address is unknown."""
    if flags & socket.MSG_TRUNC or data == _KEEPALIVE:
        return None
    local = _asked_address(family, ancillary)
    if local is None:
        return None
    remote = IPv4Address(source[0]) if family == socket.AF_INET else _ipv6(source[0])
    return Datagram(data.removeprefix(_MARKER), local, port, remote, source[1])


def _asked_address(
    family: int, ancillary: list[tuple[int, int, bytes]]
) -> IPv4Address | IPv6Address | None:
    for level, kind, octets in ancillary:
        if family == socket.AF_INET and (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            return IPv4Address(_IN_PKTINFO.unpack(octets)[2])
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            return IPv6Address(_IN6_PKTINFO.unpack(octets)[0])
    return None


def _ipv6(text: str) -> IPv6Address:
    """Parse an address without its zone, which the selectors can't carry."""
    return IPv6Address(text.partition('%')[0])
