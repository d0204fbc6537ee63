"""The operator's wishes: session policies and the PAD, keychains, credentials, algorithms.

Values that are checked when they are made and do not change afterwards.

Knows nothing of the state of a connection, of IKE messages or of where a value was configured.
"""
