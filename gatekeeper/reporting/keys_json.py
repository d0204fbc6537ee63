"""The file `keys.json`: every master key so far, for a demo or a debug run, on explicit request
only.

The file is opened, private, before the privileges are dropped; each key is added by a single write
that leaves a complete JSON list, even if the process is killed at any moment.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from errno import ENOSPC
from threading import Lock

from gatekeeper.policy.sessions import SessionPolicy
from keymaterial import create_private_file
from tcpao.mkt import Mkt, endpoint

_EMPTY = b'[]\n'
_END = b'\n]\n'


class KeyTable:
    """A file of MKTs, with ends and ids seen from the opener. Raises OSError."""

    def __init__(self, path: str) -> None:
        self._file = create_private_file(path, replace=True)
        os.pwrite(self._file, _EMPTY, 0)
        self._end = 1
        self._first = True
        self._lock = Lock()

    def add(self, policy: SessionPolicy, opener: bool, mkt: Mkt) -> None:
        """Write an MKT; `opener` is true if we opened, or open, its connection.

        A full disk must not end sessions: then this MKT is left out, and the list stays complete.
        """
        line = json.dumps(row(policy, opener, mkt)).encode()
        with self._lock:
            separator = b'\n' if self._first else b',\n'
            octets = separator + line + _END
            try:
                if os.pwrite(self._file, octets, self._end) < len(octets):
                    raise OSError(ENOSPC, 'cut off')
            except OSError:
                self._take_back()
                return
            self._end += len(separator) + len(line)
            self._first = False

    def _take_back(self) -> None:
        """Restore the end of the list: its place on the disk is allocated already."""
        end = _EMPTY[1:] if self._first else _END
        with suppress(OSError):
            os.pwrite(self._file, end, self._end)
            os.ftruncate(self._file, self._end + len(end))

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def row(policy: SessionPolicy, opener: bool, mkt: Mkt) -> dict[str, object]:
    """Return one object of `keys.json`."""
    pair = mkt.pair if opener else mkt.pair.reversed()
    send_id, recv_id = (mkt.send_id, mkt.recv_id) if opener else (mkt.recv_id, mkt.send_id)
    return {
        'session': policy.session.name,
        'local': endpoint(pair.local, pair.local_port),
        'remote': endpoint(pair.remote, pair.remote_port),
        'algorithm': mkt.algorithm.name,
        'tcp_options': mkt.tcp_options,
        'send_id': send_id,
        'recv_id': recv_id,
        'master_key': mkt.master_key.reveal().hex(),
    }
