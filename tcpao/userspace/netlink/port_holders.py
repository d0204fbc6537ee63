"""The sockets of this host on a local port, and their processes: for an operator who can't bind.

Asked of inet_diag, which shows a socket that is only bound from Linux 6.8 on. A process is found by
its descriptors in /proc: another user's only as root.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

from tcpao.mkt import IPAddress
from tcpao.userspace.netlink.messages import DONE, ERROR, HEADER, messages

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_NLM_F_DUMP: Final = 0x300
_ALL_STATES: Final = 0xFFFFFFFF
_ANSWER_WITHIN: Final = 1.0
"""Seconds."""

# inet_diag_req_v2, of which only family, protocol, states and the local port are set.
_REQUEST: Final = Struct('=BBxxI')
_PORT: Final = Struct('!H')
_REST: Final = bytes(2 + 16 + 16 + 4 + 8)
# inet_diag_msg: ports, the local address, and at the end uid and inode.
_FOUND: Final = Struct('!4xH2x16s')
_OWNER: Final = Struct('=II')
_OWNER_AT: Final = 64


class PortHolder(NamedTuple):
    """A socket on the port."""

    uid: int
    inode: int


def describe_holders(local: IPAddress, port: int) -> str:
    """Return the processes that have this local port, in words; empty if the kernel shows none."""
    names = {_describe(holder) for holder in _holders(local, port) if not _is_ours(holder)}
    return ' and '.join(sorted(names))


def _holders(local: IPAddress, port: int) -> list[PortHolder]:
    try:
        return [holder for holder in _dump(local, port) if holder.inode]
    except OSError:
        return []


def _dump(local: IPAddress, port: int) -> Iterator[PortHolder]:
    """Yield the sockets on the port, on this address or on all. Raises OSError."""
    family = socket.AF_INET if local.version == 4 else socket.AF_INET6
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, _ALL_STATES) + _PORT.pack(port) + _REST
    head = HEADER.pack(
        HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as diag:
        diag.settimeout(_ANSWER_WITHIN)
        diag.send(head + body)
        while True:
            for message in messages(diag.recv(1 << 16)):
                if message.kind in (DONE, ERROR):
                    return
                its_port, address = _FOUND.unpack_from(message.body)
                address = address[: len(local.packed)]
                if its_port == port and (address == local.packed or not any(address)):
                    yield PortHolder(*_OWNER.unpack_from(message.body, _OWNER_AT))


def _is_ours(holder: PortHolder) -> bool:
    return _has_socket(Path('/proc/self/fd'), holder.inode)


def _describe(holder: PortHolder) -> str:
    for process in Path('/proc').glob('[0-9]*'):
        if _has_socket(process / 'fd', holder.inode):
            with suppress(OSError):
                name = (process / 'comm').read_text().strip()
                return f'process {process.name} ({name}) of uid {holder.uid}'
    return f'a process of uid {holder.uid}'


def _has_socket(descriptors: Path, inode: int) -> bool:
    wanted = f'socket:[{inode}]'
    # Another user's process, or one that has ended.
    with suppress(OSError):
        for descriptor in descriptors.iterdir():
            with suppress(OSError):
                if os.readlink(descriptor) == wanted:
                    return True
    return False
