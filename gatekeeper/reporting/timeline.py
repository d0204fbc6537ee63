"""Events for operators: the daemon's log and, on request, a file with one JSON object a line.

Called from the gatekeeper's thread and the daemon's: one write() to a file opened for appending is
atomic, and the log of an adapter has to accept calls from two threads.
"""

from __future__ import annotations

import os
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from threading import Lock

from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.reporting.events import EventName, OperatorEvent
from gatekeeper.reporting.ordinary_failures import OrdinaryFailures
from gatekeeper.reporting.repeated_failures import EVERY, RepeatedFailures


class Level(Enum):
    """The importance of an event for an operator."""

    DEBUG = auto()
    INFO = auto()
    WARNING = auto()
    ERROR = auto()


_DETAILS = {
    EventName.BIND,
    EventName.IKE_INIT,
    EventName.IKE_AUTH,
    EventName.CHILD_SA,
    EventName.MKT_INSTALLED,
    EventName.SYN,
    EventName.MKT_REMOVED,
}
"""Events of every attempt, failed ones too: for debugging. Timelines have them all."""


class TimelineFile:
    """A file with one JSON object a line, which may be renamed at any time. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._cut_off = False
        """True if the last line could not be written whole."""
        self._open()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o644)
        status = os.fstat(self._file)
        self._identity = status.st_dev, status.st_ino

    def append(self, line: bytes) -> None:
        """Add a line. A full disk must not end sessions: then the line is lost."""
        with self._lock, suppress(OSError):
            if self._is_rotated():
                old = self._file
                # If the daemon's user may not create files in the folder, the old file continues.
                with suppress(OSError):
                    self._open()
                    os.close(old)
            if self._cut_off:
                line = b'\n' + line
            self._cut_off = os.write(self._file, line) < len(line)

    def _is_rotated(self) -> bool:
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return (status.st_dev, status.st_ino) != self._identity

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class Recorder(ABC):
    """The receiver of events. Raises OSError if the file can't be opened."""

    def __init__(self, router: str = '', timeline: str = '') -> None:
        self.router = router or socket.gethostname()
        self.observers: list[Callable[[OperatorEvent], None]] = []
        """Called with each event, on the thread that has it."""
        self._news = RepeatedFailures()
        self._ordinary = OrdinaryFailures()
        # Opened before the privileges are dropped, appended to afterwards.
        self._file = TimelineFile(Path(timeline)) if timeline else None

    @abstractmethod
    def log(self, level: Level, line: Callable[[], str]) -> None:
        """Write a line into the daemon's log, if this level is logged."""

    def record(self, record: OperatorEvent) -> None:
        """Record an event in the file and the log."""
        for observer in self.observers:
            observer(record)
        if self._file is not None:
            self._file.append(record.to_json().encode() + b'\n')
        match record.event:
            case EventName.REFUSED:
                self._refused(record)
            case EventName.EXPIRES:
                # The gatekeeper has counted the repetitions already.
                self.log(Level.WARNING, lambda: f'{_name(*_whose(record))}: {_why(record)}')
            case EventName.END:
                self._ordinary.down(*_whose(record))
                self.log(Level.WARNING, lambda: _ended(record))
            case _:
                if record.event is EventName.ESTABLISHED:
                    self._news.is_up(*_whose(record), time.monotonic())
                    self._ordinary.up(*_whose(record))
                level = Level.DEBUG if record.event in _DETAILS else Level.INFO
                self.log(level, lambda: _line(record))

    def _refused(self, record: OperatorEvent) -> None:
        word = str(record.details.get('reason', ''))
        if self._ordinary.lasts(*_whose(record), word, time.monotonic()):
            self.tell(*_whose(record), _why(record), _kind(record))
        else:
            self.log(Level.DEBUG, lambda: _line(record))

    def tell(self, neighbor: str, session: str, text: str, kind: str = '') -> None:
        """Log why there is no protected connection, unless that was logged lately.

        `text` is step, cause and what to try next, `kind` the same without text of an
        unauthenticated peer; `neighbor` is empty for an unknown peer.
        """
        kept_back = self._news.worth_telling(neighbor, session, text, time.monotonic(), kind)
        if kept_back is None:
            return
        line = f'{_name(neighbor, session)}: {text}'
        if kept_back:
            line += f' (and {kept_back} times since that was said before)'
        self.log(Level.ERROR if neighbor else Level.WARNING, lambda: line)

    def reloaded(self) -> None:
        """Note another configuration: failures that last are reported again."""
        self._news.forget()
        self._ordinary.forget()

    def note(
        self,
        policy: SessionPolicy,
        event: EventName,
        **details: str | int | float | bool | None,
    ) -> None:
        """Record an event of the adapter."""
        named = {'neighbor': policy.neighbor, **details}
        self.record(OperatorEvent(time.time(), self.router, policy.session.name, event, named))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _name(neighbor: str, session: str) -> str:
    if not neighbor:
        return 'refused'
    return f'neighbor {neighbor} session {session}' if session else f'neighbor {neighbor}'


def _whose(record: OperatorEvent) -> tuple[str, str]:
    return str(record.details.get('neighbor', '')), record.session or EVERY


def _why(record: OperatorEvent) -> str:
    """Return step, cause and what to try next."""
    said = record.details
    causes = [str(said[name]) for name in ('step', 'cause', 'text') if said.get(name)]
    hint = f'; {said["hint"]}' if said.get('hint') else ''
    return ': '.join(causes) + hint


def _kind(record: OperatorEvent) -> str:
    """Return step, cause and hint; empty if there is no separate `text`."""
    said = record.details
    if not said.get('text'):
        return ''
    return ': '.join(str(said[name]) for name in ('step', 'cause', 'hint') if said.get(name))


def _ended(record: OperatorEvent) -> str:
    name = _name(*_whose(record))
    return f'{name}: the session has ended: {record.details.get("cause")}'


def _line(record: OperatorEvent) -> str:
    neighbor, session = _whose(record)
    said = (f'{name}={value}' for name, value in record.details.items() if name != 'neighbor')
    return ' '.join(
        (f'{_name(neighbor, session)}:' if neighbor else '', record.event, *said)
    ).strip()
