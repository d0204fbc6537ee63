"""A file with the keys of IKE SAs, for Wireshark, on explicit request only.

Wireshark takes it as `ikev2_decryption_table` in its configuration folder. Which keys, and how
they are written, is in `ikev2.sa.key_log`; whoever asks for the file announces it.
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
        """With `replace`, a regular file that is there goes first; without, it is an error."""
        self._file = create_private_file(path, replace=replace)
        os.write(self._file, _HEADER)

    def write(self, line: str) -> None:
        """Add a line, in one write() of whole lines."""
        # A full disk must not take sessions down.
        with suppress(OSError):
            os.write(self._file, line.encode() + b'\n')

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)
