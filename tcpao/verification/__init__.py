"""Verification of captures: which segments have the right MAC, and what is wrong with the others.

`capture` reads packets, `segment` takes them apart, `verify` judges them under `known_keys`,
`diagnosis` finds what is wrong, `report` puts it into words.

Knows nothing of live connections.
"""
