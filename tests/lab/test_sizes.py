"""Files, folders and functions are small, or have a reason."""

from __future__ import annotations

from lab.sizes import reasons, too_large


def test_large_file_has_a_reason() -> None:
    without = too_large().keys() - reasons().keys()
    assert not without, 'make it smaller, or give a reason in lab/sizes.toml'


def test_every_reason_is_needed() -> None:
    assert not reasons().keys() - too_large().keys(), 'take it out of lab/sizes.toml'
