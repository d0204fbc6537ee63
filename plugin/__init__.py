"""ExaBGP 5.0 (unmodified, from PyPI) with every gated session under a negotiated TCP-AO key.

The `ikev2 { }` section, one session per address family, the pinned source port, the gate before
connect(), accepted sockets, `show ikev2`, and the launcher. Knows nothing of IKE messages or of
setsockopt layouts: those belong to the gatekeeper and the packages below it.
"""
