"""The process's end of one channel: one question at a time, and its answer, perhaps later."""

from __future__ import annotations

import contextlib
import socket

from tcpao.userspace.protocol import codec, messages
from tcpao.userspace.protocol.messages import Reply, Request, Wait


class Questions:
    """The questions of one thread of the daemon."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._received = b''
        """The received part of an incomplete request."""
        self._answered = True

    def fileno(self) -> int:
        """Return a descriptor that is readable at a question, or when the daemon hangs up."""
        return self._channel.fileno()

    def receive_request(self) -> Request | None:
        """Return the question, once it is complete. Raises EOFError when the daemon has hung up."""
        try:
            piece = self._channel.recv(1 + messages.PIECE)
        except OSError:
            piece = b''
        if not piece:
            raise EOFError
        self._received += piece[1:]
        if piece[0]:
            return None
        octets, self._received = self._received, b''
        self._answered = False
        return codec.decode(octets)

    def keep_waiting(self) -> None:
        """Announce, if there is no answer yet, that it may take as long as a change of the
        rules.
        """
        if not self._answered:
            self._send(Wait())

    def answer(self, reply: Reply) -> None:
        """Answer the last question."""
        self._answered = True
        self._send(reply)

    def hang_up(self) -> None:
        """Close the channel, which tells the daemon that this process ends."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)

    def _send(self, reply: Reply) -> None:
        with contextlib.suppress(OSError):
            self._channel.sendall(codec.encode_reply(reply))
