"""The daemon's side of the second net. For one thread at a time."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Collection
from threading import Lock
from typing import Any, Final

from tcpao.second_net.ruleset import Service

MODULE = 'tcpao.second_net'
"""The module of the keeper."""
_PATIENCE: Final = 12.0
"""Seconds to wait for an answer; nft may take ten of them."""
_SHORT: Final = 0.3
"""Seconds to wait for the counters, which are not worth a longer wait."""
_LARGEST: Final = 1 << 16


class NetError(Exception):
    """The rules were not changed; the message says why."""


class SecondNet:
    """The second net of one daemon: absent before `start`, and where no rules can be made."""

    def __init__(self) -> None:
        self._channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = Lock()
        self._process_end: int | None = None
        self.missing: str | None = 'it was not started'
        """The reason why there is no net; None while there is one."""

    @property
    def pid(self) -> int | None:
        """Return the process id of the keeper; None before the start."""
        return self._process.pid if self._process is not None else None

    def fileno(self) -> int | None:
        """Return a descriptor that is readable once the keeper has ended; None without a net."""
        return self._process_end if self.missing is None else None

    def lose(self) -> None:
        """Note that the keeper has ended by itself; its rules stay until the next start."""
        self._give_up('its process has ended')

    def start(self) -> None:
        """Start the keeper, with this process's privileges. Never raises: see `missing`."""
        # SOCK_SEQPACKET keeps the bounds of messages of any length, and reports the end of the
        # other side.
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._process = subprocess.Popen(
                [sys.executable, '-m', MODULE, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            self.missing = f'its process cannot be started: {error}'
            return
        finally:
            theirs.close()
        self._channel = ours
        self.missing = None
        try:
            self._hear(_PATIENCE)
            self._process_end = os.pidfd_open(self._process.pid)
        except (NetError, OSError) as error:
            self._give_up(str(error))

    def keep(self, services: Collection[Service]) -> None:
        """Protect exactly these services. Raises NetError; unchanged then."""
        if self.missing is None:
            self._ask([[str(peer), port] for peer, port in services], _PATIENCE)

    def counters(self) -> dict[str, int]:
        """Return the dropped segments by direction; {} without a net, or without a quick answer."""
        if self.missing is not None:
            return {}
        if not self._lock.acquire(timeout=_SHORT):
            return {}
        try:
            answer: dict[str, int] = self._exchange('count', _SHORT)
        except NetError:
            return {}
        finally:
            self._lock.release()
        return answer

    def stop(self) -> None:
        """Remove the rules, when every session is closed; a second call changes nothing."""
        if self.missing is not None:
            return
        try:
            self._ask('end', _PATIENCE)
            why = 'it has ended'
        except NetError as error:
            why = str(error)
        self._give_up(why)

    def _give_up(self, why: str) -> None:
        self.missing = why
        assert self._channel is not None
        assert self._process is not None
        self._channel.close()
        if self._process_end is not None:
            os.close(self._process_end)
            self._process_end = None
        try:
            self._process.wait(_SHORT)
        except subprocess.TimeoutExpired:
            # The keeper ends with its channel; there is no need to wait.
            return

    def _ask(self, request: object, seconds: float) -> Any:
        with self._lock:
            return self._exchange(request, seconds)

    def _exchange(self, request: object, seconds: float) -> Any:
        assert self._channel is not None
        try:
            self._drain()
            self._channel.settimeout(seconds)
            self._channel.send(json.dumps(request).encode())
        except OSError as error:
            raise NetError(f'its process is gone: {error}') from None
        return self._hear(seconds)

    def _drain(self) -> None:
        """Discard an answer that came too late."""
        assert self._channel is not None
        self._channel.setblocking(False)
        try:
            while self._channel.recv(_LARGEST):
                pass
        except BlockingIOError:
            return

    def _hear(self, seconds: float) -> Any:
        assert self._channel is not None
        self._channel.settimeout(seconds)
        try:
            octets = self._channel.recv(_LARGEST)
        except TimeoutError:
            raise NetError(f'its process does not answer within {seconds:g} s') from None
        except OSError as error:
            raise NetError(f'its process is gone: {error}') from None
        if not octets:
            raise NetError('its process has ended')
        answer = json.loads(octets)
        if 'error' in answer:
            raise NetError(answer['error'])
        return answer
