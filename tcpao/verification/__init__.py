"""Verification of captures: which segments have the right MAC, and the fault of the others.

`capture` reads packets, `segment` decodes them, `verify` judges them under `known_keys`,
`diagnosis` finds the fault, `report` describes the results.

Knows nothing of live connections.
"""
