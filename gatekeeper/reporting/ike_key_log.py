"""A file with the keys of IKE SAs, for Wireshark, on explicit request only.

Wireshark reads it as `ikev2_decryption_table` in its configuration folder. `ikev2.sa.key_log` has
the format; the caller that asks for the file has to announce it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from keymaterial import create_private_file

_HEADER = b'# KEYS OF IKE SAs, to be kept secret: an ikev2_decryption_table for Wireshark\n'


class IkeKeyLog:
    """A new private file. Raises OSError."""

    def __init__(self, path: str | Path, *, replace: bool = False) -> None:
        """Create the file. Raises OSError.

        With `replace`, an existing regular file is removed first; without, it is an error.
        """
        self._file = create_private_file(path, replace=replace)
        os.write(self._file, _HEADER)

    def write(self, line: str) -> None:
        """Add a line, in one write() of whole lines."""
        # A full disk must not end sessions.
        with suppress(OSError):
            os.write(self._file, line.encode() + b'\n')

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
