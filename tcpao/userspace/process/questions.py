"""The process's end of one channel: a question at a time, and its answer, perhaps later."""

from __future__ import annotations

import contextlib
import socket

from tcpao.userspace.protocol import codec, messages
from tcpao.userspace.protocol.messages import Reply, Request, Wait


class Questions:
    """Of one thread of the daemon's."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._heard = b''
        """Of a request that isn't complete."""
        self._answered = True

    def fileno(self) -> int:
        """Readable when something was asked, or nothing will be any more."""
        return self._channel.fileno()

    def hear(self) -> Request | None:
        """The question, once it is complete. Raises EOFError when the daemon has hung up."""
        try:
            piece = self._channel.recv(1 + messages.PIECE)
        except OSError:
            piece = b''
        if not piece:
            raise EOFError
        self._heard += piece[1:]
        if piece[0]:
            return None
        octets, self._heard = self._heard, b''
        self._answered = False
        return codec.decode(octets)

    def keep_waiting(self) -> None:
        """Tell, if there is no answer yet, that it may take as long as a change of the rules."""
        if not self._answered:
            self._send(Wait())

    def answer(self, reply: Reply) -> None:
        """To the question that was heard last."""
        self._answered = True
        self._send(reply)

    def hang_up(self) -> None:
        """To the daemon this is our end."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)

    def _send(self, reply: Reply) -> None:
        with contextlib.suppress(OSError):
            self._channel.sendall(codec.encode_reply(reply))
