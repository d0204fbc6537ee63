"""What happened, for operators: ExaBGP's log and, on request, a file with one JSON object a line.

Called from the gatekeeper's thread and the reactor's: one write() to a file opened for appending
is not torn, and Python's logging has its own lock.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from exabgp.logger import log

from gatekeeper.policy import SessionPolicy
from gatekeeper.records import EventName, Record

LOG = 'ikev2'
"""Our source in ExaBGP's log."""


_GRAVE = {EventName.REFUSED, EventName.END}
"""What an operator should see who sees warnings only."""


class Recorder:
    """Where records go. Raises OSError if the file can't be opened."""

    def __init__(self, router: str = '', timeline: str = '') -> None:
        self.router = router or socket.gethostname()
        self._file: int | None = None
        if timeline:
            # Opened before the privileges are dropped, appended to afterwards.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._file = os.open(Path(timeline), flags, 0o644)

    def record(self, record: Record) -> None:
        """Write a record down."""
        if self._file is not None:
            # A full disk must not take sessions down.
            with suppress(OSError):
                os.write(self._file, record.to_json().encode() + b'\n')
        write = log.warning if record.event in _GRAVE else log.info
        write(lambda: _line(record), LOG)

    def note(
        self,
        policy: SessionPolicy,
        event: EventName,
        **details: str | int | float | bool | None,
    ) -> None:
        """Write down what the plugin itself saw."""
        named = {'neighbor': policy.neighbor, **details}
        self.record(Record(time.time(), self.router, policy.session.name, event, named))

    def close(self) -> None:
        """Give the file back."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _line(record: Record) -> str:
    session = f' session {record.session}' if record.session else ''
    details = ' '.join(f'{name}={value}' for name, value in record.details.items())
    return f'{record.event}{session} {details}'.rstrip()
