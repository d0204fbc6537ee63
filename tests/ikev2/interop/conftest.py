"""One wire and one daemon for all rows of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ikev2.interop.pair import Pair
from tests.ikev2.interop.swan import Swan
from tests.ikev2.interop.wire import Wire, wired


@pytest.fixture(scope='module')
def wire() -> Iterator[Wire]:
    with wired() as made:
        yield made


@pytest.fixture(scope='module')
def swan(wire: Wire, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swan]:
    swan = Swan(wire.theirs, tmp_path_factory.mktemp('swan'))
    yield swan
    swan.stop()


@pytest.fixture
def pair(wire: Wire, swan: Swan) -> Iterator[Pair]:
    """We and strongSwan."""
    pair = Pair(wire, swan)
    yield pair
    pair.close()
