"""The README, word for word, at both ends: its files, keys and commands, and what they print."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.backends import under_userspace
from tests.e2e.conftest import Routers
from tests.e2e.readers import Readers, reading
from tests.e2e.readme import README, steps

pytestmark = under_userspace


@pytest.fixture
def readers(routers: Routers) -> Iterator[Readers]:
    with reading(routers) as found:
        yield found


def test_readme_brings_two_routers_up_when_followed(readers: Readers) -> None:
    done = list(steps(README.read_text()))
    assert len(done) == 12
    for step in done:
        readers.follow(step)
