"""ExaBGP's reactor: hooks in its loop, start and end of the gatekeeper, deferred reloads.

Knows nothing of configuration words or of IKE messages.
"""
