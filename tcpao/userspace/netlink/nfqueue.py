"""The netlink messages of a netfilter queue: configuration, packets, verdicts.

Not a library for nfnetlink: one queue, whole packets, no fail-open, no GSO (each segment must have
its own MAC, so the kernel has to segment, and complete checksums, before it queues). Sources:
include/uapi/linux/netfilter/nfnetlink.h, nfnetlink_queue.h and linux/netlink.h. Numbers in
nfnetlink's attributes are in network byte order, netlink's own in the host's.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from struct import Struct
from typing import Final

NETLINK_NETFILTER: Final = 12
_SOL_NETLINK: Final = 270
_NETLINK_NO_ENOBUFS: Final = 5
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33

_NLMSG_ERROR: Final = 2
_NLM_F_REQUEST: Final = 1
_NLM_F_ACK: Final = 4
_NFNL_SUBSYS_QUEUE: Final = 3

# Limits of the kernel's queue: packets, and octets of the socket that delivers them. Enough for
# full send buffers of a few sessions; packets beyond are lost, and TCP repeats them.
QUEUE_LENGTH: Final = 8192
RECEIVE_BUFFER: Final = 16 * 1024 * 1024
LARGEST_MESSAGE: Final = 0xFFFF + 4096
# Octets of verdicts sent in one call; hosts' defaults (net.core.wmem_default) may be too small for
# a single packet. The kernel takes them during the call: no memory is used afterwards.
SEND_BUFFER: Final = 1024 * 1024
# Too much for the send buffer, or no memory: the kernel has processed none of the verdicts.
_NO_ROOM: Final = {errno.EMSGSIZE, errno.ENOBUFS}


class Message(IntEnum):
    """enum nfqnl_msg_types."""

    PACKET = 0
    VERDICT = 1
    CONFIG = 2


class ConfigAttribute(IntEnum):
    """enum nfqnl_attr_config."""

    COMMAND = 1
    PARAMETERS = 2
    QUEUE_LENGTH = 3


class Attribute(IntEnum):
    """enum nfqnl_attr_type."""

    PACKET_HEADER = 1
    VERDICT_HEADER = 2
    IN_DEVICE = 5
    OUT_DEVICE = 6
    PAYLOAD = 10
    CAPTURED_LENGTH = 13
    SKB_INFO = 14


class Hook(IntEnum):
    """enum nf_inet_hooks: the position of a packet on its way."""

    LOCAL_IN = 1
    LOCAL_OUT = 3


_COMMAND_BIND: Final = 1
_COMMAND_PF_BIND: Final = 3
"""No effect any more, but needs CAP_NET_ADMIN like all other commands."""
_COPY_PACKET: Final = 2
_CHECKSUM_NOT_READY: Final = 1
_DROP: Final = 0
_ACCEPT: Final = 1

_NLMSG: Final = Struct('=IHHII')
_NFGENMSG: Final = Struct('!BBH')
_ATTRIBUTE: Final = Struct('=HH')
_PACKET_HEADER: Final = Struct('!IHB')
_NUMBER: Final = Struct('!I')
_SHORT: Final = Struct('!H')
_ERROR: Final = Struct('=i')
_HEADERS: Final = _NLMSG.size + _NFGENMSG.size
_TYPE_MASK: Final = 0x3FFF
_PACKET_TYPE: Final = _NFNL_SUBSYS_QUEUE << 8 | Message.PACKET
_VERDICT_TYPE: Final = _NFNL_SUBSYS_QUEUE << 8 | Message.VERDICT
# Plain numbers: an IntEnum's value costs in the loop over attributes.
_A_PACKET_HEADER: Final = int(Attribute.PACKET_HEADER)
_A_PAYLOAD: Final = int(Attribute.PAYLOAD)
_A_DEVICES: Final = (int(Attribute.IN_DEVICE), int(Attribute.OUT_DEVICE))
_A_SKB_INFO: Final = int(Attribute.SKB_INFO)


class QueueError(Exception):
    """The queue is not available; the message says why and what to try."""


class QueueTakenError(QueueError):
    """Another process listens on this queue."""


@dataclass(frozen=True, slots=True)
class Queued:
    """A packet that waits for its verdict."""

    identity: int
    hook: int
    packet: bytes
    partial: bool
    """True if the TCP checksum was left to the hardware."""
    interface: int = 0
    """Index of the device by which the packet arrived or leaves."""


def parse(octets: bytes | memoryview) -> list[Queued]:
    """Return the packets of one read of the netlink socket; other messages are skipped.

    A packet that was cut is shorter than its own length field says, which the core detects.
    """
    packets = []
    at, end = 0, len(octets)
    while at + _HEADERS <= end:
        length, kind = _NLMSG.unpack_from(octets, at)[:2]
        if length < _HEADERS or at + length > end:
            break
        if kind == _PACKET_TYPE:
            queued = _parse_packet(octets, at + _HEADERS, at + length)
            if queued is not None:
                packets.append(queued)
        at += (length + 3) & ~3
    return packets


def _parse_packet(octets: bytes | memoryview, at: int, end: int) -> Queued | None:
    identity = hook = -1
    interface = 0
    packet = b''
    partial = False
    while at + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(octets, at)
        if length < 4 or at + length > end:
            break
        kind &= _TYPE_MASK
        if kind == _A_PAYLOAD:
            packet = bytes(octets[at + 4 : at + length])
        elif kind == _A_PACKET_HEADER and length >= 11:
            identity, _, hook = _PACKET_HEADER.unpack_from(octets, at + 4)
        elif kind in _A_DEVICES and length == 8:
            interface = _NUMBER.unpack_from(octets, at + 4)[0]
        elif kind == _A_SKB_INFO and length == 8:
            partial = bool(_NUMBER.unpack_from(octets, at + 4)[0] & _CHECKSUM_NOT_READY)
        at += (length + 3) & ~3
    return Queued(identity, hook, packet, partial, interface) if identity >= 0 else None


# Headers of a verdict: netlink, nfgenmsg, the verdict's own attribute, the payload's header.
_VERDICT: Final = Struct('=IHHII4sHH8sHH')
_VERDICT_HEADER: Final = Struct('!II')
_PAYLOAD_AT: Final = _VERDICT.size
_VERDICT_HEADER_AT: Final = 24
_BARE: Final = Struct('=IHHII4sHH8s')


def verdict(queue: int, identity: int, packet: bytes | None, changed: bool) -> bytes:
    """Return one verdict message: the packet to send on instead, or None to drop it."""
    generic = _NFGENMSG.pack(0, 0, queue)
    if packet is None or not changed:
        decision = _VERDICT_HEADER.pack(_DROP if packet is None else _ACCEPT, identity)
        head = (_BARE.size, _VERDICT_TYPE, _NLM_F_REQUEST, 0, 0)
        return _BARE.pack(*head, generic, 12, Attribute.VERDICT_HEADER, decision)
    size = len(packet)
    padding = -size % 4
    return b''.join(
        (
            _VERDICT.pack(
                _PAYLOAD_AT + size + padding,
                _VERDICT_TYPE,
                _NLM_F_REQUEST,
                0,
                0,
                generic,
                12,
                Attribute.VERDICT_HEADER,
                _VERDICT_HEADER.pack(_ACCEPT, identity),
                size + 4,
                _A_PAYLOAD,
            ),
            packet,
            bytes(padding),
        )
    )


def configuration(queue: int, sequence: int, *attributes: tuple[ConfigAttribute, bytes]) -> bytes:
    """Return a configuration message that asks for an acknowledgment."""
    body = _NFGENMSG.pack(0, 0, queue)
    for kind, value in attributes:
        body += _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)
    kind_of_message = _NFNL_SUBSYS_QUEUE << 8 | Message.CONFIG
    flags = _NLM_F_REQUEST | _NLM_F_ACK
    return _NLMSG.pack(_NLMSG.size + len(body), kind_of_message, flags, sequence, 0) + body


def acknowledgment(octets: bytes) -> tuple[int, int] | None:
    """Return sequence number and errno (0: done) of an answer; None for another message."""
    try:
        _, kind, _, sequence, _ = _NLMSG.unpack_from(octets)
        if kind != _NLMSG_ERROR:
            return None
        return sequence, -_ERROR.unpack_from(octets, _NLMSG.size)[0]
    except struct.error:
        return None


class Queue:
    """One netfilter queue of this process's network namespace, bound."""

    def __init__(self, number: int) -> None:
        """Bind the queue. Raises QueueError, QueueTakenError if another process has this number."""
        self.number = number
        self._sequence = 0
        self._owed: list[bytes] = []
        """Verdicts that did not fit into the send buffer; each is a drop."""
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        except OSError as error:
            raise QueueError(f'no netfilter netlink: {error.strerror}') from None
        try:
            self._socket.bind((0, 0))
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, SEND_BUFFER)
            # An overflow loses packets either way.
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_NO_ENOBUFS, 1)
            self._command(_COMMAND_PF_BIND)
            try:
                self._command(_COMMAND_BIND)
            except OSError as error:
                # At this point EPERM means that another socket has the queue.
                if error.errno in (errno.EPERM, errno.EBUSY, errno.EEXIST):
                    taken = f'netfilter queue {number} belongs to another process'
                    raise QueueTakenError(taken) from None
                raise
            self._configure(
                (ConfigAttribute.PARAMETERS, Struct('!IB').pack(0xFFFF, _COPY_PACKET)),
                (ConfigAttribute.QUEUE_LENGTH, _NUMBER.pack(QUEUE_LENGTH)),
            )
        except QueueTakenError:
            self._socket.close()
            raise
        except OSError as error:
            self._socket.close()
            raise _explained(error.errno, number) from None
        self._socket.setblocking(False)
        self._buffer = bytearray(LARGEST_MESSAGE)
        self._view = memoryview(self._buffer)

    def fileno(self) -> int:
        """Return a descriptor that is readable when packets wait."""
        return self._socket.fileno()

    def receive(self) -> list[Queued]:
        """Return the packets that wait, if any."""
        try:
            size = self._socket.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return []
        return parse(self._view[:size])

    def send(self, verdicts: list[bytes]) -> None:
        """Send verdicts, many in one system call.

        Without room for that many, send them one by one; a packet without room is dropped: TCP
        repeats it.
        """
        if self._owed:
            verdicts = self._owed + verdicts
            self._owed = []
        if self._takes(b''.join(verdicts)):
            return
        for each in verdicts:
            if not self._takes(each):
                _, identity = _VERDICT_HEADER.unpack_from(each, _VERDICT_HEADER_AT)
                drop = verdict(self.number, identity, None, changed=False)
                if not self._takes(drop):
                    # Without a verdict, the packet would fill the queue for ever.
                    self._owed.append(drop)

    def _takes(self, octets: bytes) -> bool:
        """Return True if the kernel has taken all; without room, it takes none."""
        try:
            self._socket.send(octets)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            return False
        return True

    def close(self) -> None:
        """Unbind the queue: packets that its rules match are dropped from now on."""
        self._socket.close()

    def _command(self, command: int) -> None:
        self._configure((ConfigAttribute.COMMAND, Struct('!BxH').pack(command, 0)))

    def _configure(self, *attributes: tuple[ConfigAttribute, bytes]) -> None:
        self._sequence += 1
        self._socket.send(configuration(self.number, self._sequence, *attributes))
        while True:
            answer = acknowledgment(self._socket.recv(LARGEST_MESSAGE))
            if answer is not None and answer[0] == self._sequence:
                if answer[1]:
                    raise OSError(answer[1], os.strerror(answer[1]))
                return


def _explained(number: int | None, queue: int) -> QueueError:
    if number == errno.EPERM:
        return QueueError('netfilter queues need CAP_NET_ADMIN: start as root')
    if number in (errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT):
        return QueueError('this kernel has no netfilter queues (CONFIG_NETFILTER_NETLINK_QUEUE)')
    return QueueError(f'netfilter queue {queue}: {os.strerror(number or 0)}')


def bound_queues() -> set[int]:
    """Return the numbers of the queues that processes in this namespace listen on.

    Raises QueueError if only root may read them.
    """
    path = Path('/proc/thread-self/net/netfilter/nfnetlink_queue')
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        # The kernel has no queues at all.
        return set()
    except OSError as error:
        raise QueueError(
            f'it cannot be seen which netfilter queues are listened on ({path}: {error.strerror})'
        ) from None
    return {int(line.split()[0]) for line in lines}
