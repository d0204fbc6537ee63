"""A pytest plugin (`-p lab.upstream.with_hooks`): ExaBGP's unit tests with our hooks in place."""

from __future__ import annotations

from plugin import compat, install

compat.check()
install.install()
