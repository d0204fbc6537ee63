"""`gatekeeper probe`: try IKE and a TCP-AO key with one peer, and tell each step.

`command` is the command line, `probe` the attempt, `transcript` the steps as they are told,
`message_text` puts IKE messages into words, `advice` says what to do next.

Knows nothing of a running daemon, whose sessions it leaves alone.
"""
