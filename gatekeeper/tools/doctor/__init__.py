"""The command `gatekeeper doctor`: what this host supports, what is missing, and what to do about
it.

`host` examines the host and leaves no change; `checks` judges the facts, without I/O; `command` is
the command line.

Knows nothing of a configuration or of a running daemon, whose sessions it does not touch.
"""
