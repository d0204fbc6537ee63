"""`python -m plugin` is the command `exabgp-gatekeeper`."""

from __future__ import annotations

import sys

from plugin.launcher import main

if __name__ == '__main__':
    sys.exit(main())
