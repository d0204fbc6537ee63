"""`gatekeeper doctor`: say what this host can do, what it can't, and what to do about it.

`host` looks at the host and changes nothing that stays; `checks` judges the facts, without I/O;
`command` is the command line.

Knows nothing of a configuration or of a running daemon, whose sessions it leaves alone.
"""
