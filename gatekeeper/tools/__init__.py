"""The `gatekeeper` command: `init`, `keygen`, `fingerprint`, `probe` and `verify`.

Each verb runs next to a daemon and never changes it. Nothing imports this package.

Knows nothing of any routing daemon.
"""
