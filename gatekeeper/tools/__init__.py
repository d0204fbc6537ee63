"""The `gatekeeper` command: `keygen`, `probe` and `verify`.

Each runs beside a daemon and never changes it. Nothing imports this package.

Knows nothing of any routing daemon.
"""
