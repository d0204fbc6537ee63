"""The second net: rules with which the kernel drops segments of protected neighbors without TCP-AO.

They lie beneath either backend: the backend may be dead, bypassed or not started, and still no
octet of a protected neighbor passes unsigned, in or out. A separate process (`keeper`) makes the
rules of nftables, since the daemon has no privileges by then; `client` is the daemon's side,
`ruleset` the text, `leftovers` removes the rules of a daemon that was killed.

Knows nothing of keys, and judges no MAC.
"""
