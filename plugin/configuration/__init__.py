"""ExaBGP's configuration: the `ikev2` section, keychains, neighbors, sessions, loading.

The way in and out of ExaBGP's parser, and what a whole neighbor amounts to. Which words are
allowed is in `gatekeeper.configuration`.

Knows nothing of connections or of IKE messages.
"""
