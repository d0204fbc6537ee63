"""A network namespace of a test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tcpao.benches import namespace


@pytest.fixture
def own_namespace() -> Iterator[None]:
    """Run the test in a fresh network namespace on whatever kernel this is."""
    with namespace():
        yield
