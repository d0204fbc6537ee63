"""ExaBGP's configuration: the `ikev2` section, keychains, neighbors, sessions, loading.

The way in and out of ExaBGP's parser, and the meaning of a whole neighbor. The allowed words are in
`gatekeeper.configuration`.

Knows nothing of connections or of IKE messages.
"""
