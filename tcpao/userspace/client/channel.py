"""The daemon's end of the channel to the packet process: one question, one answer.

There is one channel for each thread that asks; the reactor's thread never waits
(`background_installer`). A process that does not answer is killed: its rules stay, so no segment
passes unsigned.
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

# Seconds to wait for an answer, which takes milliseconds.
PATIENCE: Final = 4.0
# Seconds to wait for an answer that needs other rules: two changes, each as long as it may wait for
# a lock.
RULES_PATIENCE: Final = 30.0
# Seconds that `close` waits for another thread, which has been woken.
_YIELDS_WITHIN: Final = 0.2


# asm-generic/socket.h
_SO_SNDBUFFORCE: Final = 32


def both_ends() -> tuple[socket.socket, socket.socket]:
    """Return the daemon's and the process's end, with room for the largest message.

    The host's default may be smaller (net.core.wmem_default).
    """
    both = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in both:
        # A user without this privilege can't have a queue either, and the process reports that.
        with suppress(PermissionError):
            end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, LARGEST)
    return both


class ChannelError(InstallError):
    """The packet process is gone."""

    def __init__(self, text: str) -> None:
        super().__init__(Cause.GONE, text)


class Channel:
    """A sender of questions to the packet process."""

    def __init__(self, sock: socket.socket, kill: Callable[[], None]) -> None:
        self._socket = sock
        self._kill = kill
        self._lock = threading.Lock()
        self.died: str | None = None
        """The reason why the channel is unusable; None while it works."""
        sock.settimeout(PATIENCE)

    def ask(self, request: Request) -> Reply:
        """Return the answer. Raises InstallError for a refusal, ChannelError without an answer."""
        with self._lock:
            if self.died is not None:
                raise ChannelError(self.died)
            try:
                for piece in pieces(encode(request)):
                    self._socket.sendall(piece)
                octets = self._hear()
            except OSError as error:
                # Also a time-out. The late answer must not be taken for that of the next question.
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
        """Return an answer; empty at the end of the process. Raises OSError."""
        octets = self._socket.recv(LARGEST)
        if octets and isinstance(decode_reply(octets), Wait):
            self._socket.settimeout(RULES_PATIENCE)
            octets = self._socket.recv(LARGEST)
            self._socket.settimeout(PATIENCE)
        return octets

    def fileno(self) -> int:
        """Return a descriptor that hangs up once the process has ended."""
        return self._socket.fileno()

    def tell(self, request: Request) -> None:
        """Send a request whose answer is not needed; lost if the channel is busy."""
        if self.died is None and self._lock.acquire(timeout=_YIELDS_WITHIN):
            try:
                self._socket.setblocking(False)
                for piece in pieces(encode(request)):
                    self._socket.send(piece)
            except OSError:
                # The process is as good as dead.
                return
            finally:
                self._lock.release()

    def listen(self) -> Reply | None:
        """Return the first message of the process; None if it ends without one."""
        self._socket.settimeout(RULES_PATIENCE)
        try:
            octets = self._socket.recv(LARGEST)
        except OSError:
            octets = b''
        finally:
            self._socket.settimeout(PATIENCE)
        return decode_reply(octets) if octets else None

    def close(self, why: str) -> None:
        """Close the channel, which tells the process that the daemon ends; wakes waiting
        threads.
        """
        if self.died is None:
            self.died = why
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._lock.acquire(timeout=_YIELDS_WITHIN):
            self._socket.close()
            self._lock.release()

    def _give_up(self, why: str) -> None:
        """Kill a process that does not answer, unless the daemon has closed the channel."""
        if self.died is None:
            self.died = why
            self._kill()
