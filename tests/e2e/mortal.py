"""`exabgp-gatekeeper` with a gatekeeper that dies when the file /run/e2e/die is there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from plugin.launcher import HELPER, main

DIE = Path('/run/e2e/die')


def _make_mortal() -> None:
    from gatekeeper.engine.core import Core

    original = Core.handle_timer

    def handle_timer(self: Core, now: float) -> None:
        if DIE.exists():
            raise RuntimeError('killed by a test')
        original(self, now)

    Core.handle_timer = handle_timer  # type: ignore[method-assign]


if __name__ == '__main__':
    if HELPER not in os.environ:
        _make_mortal()
    sys.exit(main())
