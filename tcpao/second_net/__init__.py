"""The second net: the kernel itself drops segments of protected neighbors without TCP-AO.

Beneath either backend: what protects connections may be dead, bypassed or not started, and still no
octet of a protected neighbor's passes unsigned, in or out. A process of its own (`keeper`) makes
the rules of nftables, since the daemon has no privileges by then; `client` is the daemon's end,
`ruleset` the text, `leftovers` what a daemon that was killed has left.

Knows nothing of keys, and judges no MAC.
"""
