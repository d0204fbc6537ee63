"""The daemon's end of the private way to the packet process: one question, one answer.

One for each thread that asks. None is the reactor's: it waits for nobody (`background_installer`).
A process that doesn't answer is as good as dead and is killed: its rules stay, so nothing gets
through.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from tcpao.installer import Cause
from tcpao.key_socket import InstallError
from tcpao.userspace.protocol.codec import decode_reply, encode, pieces
from tcpao.userspace.protocol.messages import LARGEST, Refused, Reply, Request, Wait

# Seconds for a sign of life, which takes milliseconds.
PATIENCE: Final = 4.0
# Seconds for an answer that needs other rules: two changes, each as long as it may wait for a lock.
RULES_PATIENCE: Final = 30.0
# Seconds that the end waits for another thread, which has been woken.
_YIELDS_WITHIN: Final = 0.2


# asm-generic/socket.h
_SO_SNDBUFFORCE: Final = 32


def both_ends() -> tuple[socket.socket, socket.socket]:
    """The daemon's and the process's, with room for the largest message whatever the host's
    default is (net.core.wmem_default)."""
    both = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in both:
        # Who may not do that can't have a queue either, and the process says so.
        with suppress(PermissionError):
            end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, LARGEST)
    return both


class ChannelError(InstallError):
    """The packet process is gone."""

    def __init__(self, text: str) -> None:
        super().__init__(Cause.GONE, text)


class Channel:
    """Questions to the packet process."""

    def __init__(self, sock: socket.socket, kill: Callable[[], None]) -> None:
        self._socket = sock
        self._kill = kill
        self._lock = threading.Lock()
        self.died: str | None = None
        """Why nothing can be asked any more; None while it can."""
        sock.settimeout(PATIENCE)

    def ask(self, request: Request) -> Reply:
        """The answer. Raises InstallError if it is a refusal, ChannelError if none comes."""
        with self._lock:
            if self.died is not None:
                raise ChannelError(self.died)
            try:
                for piece in pieces(encode(request)):
                    self._socket.sendall(piece)
                octets = self._hear()
            except OSError as error:
                # Also a time-out. The answer to this question must not be taken for the next's.
                self._give_up(f'the packet process does not answer ({error})')
                raise ChannelError(self.died or '') from None
            if not octets:
                self._give_up('the packet process has ended')
                raise ChannelError(self.died or '')
        reply = decode_reply(octets)
        if isinstance(reply, Refused):
            raise InstallError(reply.cause, reply.text)
        return reply

    def _hear(self) -> bytes:
        """An answer; nothing at the end. Raises OSError."""
        octets = self._socket.recv(LARGEST)
        if octets and isinstance(decode_reply(octets), Wait):
            self._socket.settimeout(RULES_PATIENCE)
            octets = self._socket.recv(LARGEST)
            self._socket.settimeout(PATIENCE)
        return octets

    def fileno(self) -> int:
        """Hung up once the process has ended."""
        return self._socket.fileno()

    def tell(self, request: Request) -> None:
        """Ask for something whose answer nobody wants; lost if it can't be said at once."""
        if self.died is None and self._lock.acquire(timeout=_YIELDS_WITHIN):
            try:
                self._socket.setblocking(False)
                for piece in pieces(encode(request)):
                    self._socket.send(piece)
            except OSError:
                # As good as dead.
                return
            finally:
                self._lock.release()

    def listen(self) -> Reply | None:
        """What the process says first; None if it ends without a word."""
        self._socket.settimeout(RULES_PATIENCE)
        try:
            octets = self._socket.recv(LARGEST)
        except OSError:
            octets = b''
        finally:
            self._socket.settimeout(PATIENCE)
        return decode_reply(octets) if octets else None

    def close(self, why: str) -> None:
        """Nothing more will be asked; to the process this is the daemon's end. Whoever waits for
        an answer is woken."""
        if self.died is None:
            self.died = why
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._lock.acquire(timeout=_YIELDS_WITHIN):
            self._socket.close()
            self._lock.release()

    def _give_up(self, why: str) -> None:
        self.died = why
        self._kill()
