"""`keys.json`: every master key that lived, for a demo or a debug run, on explicit request only.

The file is opened, private, before the privileges are
dropped; each key is added by a single write that leaves a complete JSON list behind, so that a
crash at any moment leaves one too.
"""

from __future__ import annotations

import json
import os
from threading import Lock

from gatekeeper.policy.sessions import SessionPolicy
from keymaterial import create_private_file
from tcpao.mkt import Mkt, endpoint

_EMPTY = b'[]\n'
_END = b'\n]\n'


class KeyTable:
    """A file of MKTs, ends and ids as the opener sees them. Raises OSError."""

    def __init__(self, path: str) -> None:
        self._file = create_private_file(path, replace=True)
        os.pwrite(self._file, _EMPTY, 0)
        self._end = 1
        self._first = True
        self._lock = Lock()

    def add(self, policy: SessionPolicy, opener: bool, mkt: Mkt) -> None:
        """Write an MKT down; `opener` is true if we opened, or open, its connection."""
        line = json.dumps(row(policy, opener, mkt)).encode()
        with self._lock:
            separator = b'\n' if self._first else b',\n'
            os.pwrite(self._file, separator + line + _END, self._end)
            self._end += len(separator) + len(line)
            self._first = False

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)


def row(policy: SessionPolicy, opener: bool, mkt: Mkt) -> dict[str, object]:
    """One object of `keys.json`."""
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
