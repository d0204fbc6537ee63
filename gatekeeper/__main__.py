"""The command `gatekeeper` as `python -m gatekeeper`."""

from __future__ import annotations

import sys

from gatekeeper.tools.cli import main

if __name__ == '__main__':
    sys.exit(main())
