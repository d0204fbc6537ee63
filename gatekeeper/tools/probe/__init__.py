"""The command `gatekeeper probe`: an attempt at IKE and a TCP-AO key with one peer, step by step.

`command` is the command line with its `options`, `probe` the attempt, `transcript` the reported
steps, `message_text` describes IKE messages, `advice` says what to do next.

Knows nothing of a running daemon, whose sessions it does not touch.
"""
