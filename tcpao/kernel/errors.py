"""The meaning of the kernel's errno for TCP-AO: a cause for us, a reason for the operator."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from tcpao.installer import Cause
from tcpao.kernel.abi import Option
from tcpao.key_socket import InstallError

_NO_TCP_AO = (
    'this kernel is built without TCP-AO (it takes Linux 6.7 or later with CONFIG_TCP_AO=y)'
)

_MEANING: Final[dict[int, tuple[Cause, str]]] = {
    errno.EBADF: (Cause.GONE, 'the socket is closed'),
    errno.ENOTSOCK: (Cause.GONE, 'the socket is closed'),
    errno.EBUSY: (Cause.BUSY, 'the key is Current or RNext'),
    errno.EEXIST: (
        Cause.KEYID_IN_USE,
        'another key for an overlapping peer address has this SendID or RecvID',
    ),
    errno.ENOPROTOOPT: (Cause.UNSUPPORTED, _NO_TCP_AO),
    errno.EOPNOTSUPP: (Cause.UNSUPPORTED, _NO_TCP_AO),
    errno.EKEYREJECTED: (
        Cause.REFUSED,
        'there is a TCP-MD5 key for this peer; one peer has one or the other',
    ),
    errno.EISCONN: (Cause.REFUSED, 'the connection is up without TCP-AO'),
    errno.EMSGSIZE: (Cause.REFUSED, 'the MAC does not fit beside the other TCP options'),
    errno.EUSERS: (Cause.NO_MEMORY, 'the kernel counts no more sockets with TCP-AO'),
    errno.EINVAL: (Cause.REFUSED, "the socket's peer, family or state does not allow it"),
}

# ENOENT has a different meaning for each option.
_ENOENT: Final[dict[Option | None, tuple[Cause, str]]] = {
    Option.ADD_KEY: (Cause.UNSUPPORTED, 'the kernel lacks the hash or cipher of this algorithm'),
    Option.DEL_KEY: (Cause.GONE, 'there is no such key'),
    Option.INFO: (Cause.GONE, 'there is no such key'),
}


def refusal(number: int | None, what: str, option: Option | None = None) -> InstallError:
    """Return the InstallError for an errno; `what` is the failed operation, `option` its option."""
    number = number or 0
    if number == errno.ENOENT:
        cause, meaning = _ENOENT.get(option, (Cause.GONE, 'there is no TCP-AO on this socket'))
    elif number in (errno.ENOMEM, errno.ENOBUFS):
        cause, meaning = Cause.NO_MEMORY, _option_memory()
    else:
        cause, meaning = _MEANING.get(number, (Cause.REFUSED, 'an unexpected error'))
    name = errno.errorcode.get(number, str(number))
    return InstallError(cause, f'{what}: {os.strerror(number)} ({name}): {meaning}', meaning)


def _option_memory() -> str:
    try:
        limit = Path('/proc/sys/net/core/optmem_max').read_text().strip()
    except OSError:
        limit = 'unknown'
    return f"the socket's option memory is full: raise net.core.optmem_max (now {limit})"
