"""The command `exabgp-gatekeeper` as `python -m plugin`."""

from __future__ import annotations

import sys

from plugin.launcher import main

if __name__ == '__main__':
    sys.exit(main())
