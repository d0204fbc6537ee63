"""The descriptors of this process, for tests of whether one stays open."""

from __future__ import annotations

import gc
import os


def descriptors() -> set[str]:
    """By number. Not those that only garbage of earlier tests holds, which go at any moment."""
    gc.collect()
    return set(os.listdir('/proc/self/fd'))
