"""ExaBGP's reactor: hooks in its loop, start and end of the gatekeeper, deferred reloads.

`beginning` and `lifecycle` start and end the gatekeeper, and `hooks` connects both loops.
`listeners` and `steady_timers` correct ExaBGP's listening sockets and timers. `leftover_rules`
removes rules of killed processes.

Knows nothing of configuration words or of IKE messages.
"""
