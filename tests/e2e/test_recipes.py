"""The recipes, word for word and in their order, after the README's first steps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.backends import under_userspace
from tests.e2e.conftest import Routers
from tests.e2e.readers import Readers, reading
from tests.e2e.readme import README, RECIPES, Step, sections, steps

pytestmark = under_userspace
RECIPE = list(sections(RECIPES))


@pytest.fixture(scope='module')
def readers(routers: Routers) -> Iterator[Readers]:
    """Who has files and keys, and has started nothing."""
    with reading(routers) as found:
        for step in steps(README.read_text()):
            if step.mark.startswith('starts'):
                break
            found.follow(step)
        yield found
    for router in (routers.r1, routers.r2):
        # The firewall of the recipes; the nodes are used on.
        router.node.run(['nft', 'delete', 'table', 'inet', 'firewall'])


@pytest.mark.parametrize('recipe', [found for _, found in RECIPE], ids=[name for name, _ in RECIPE])
def test_recipe_does_what_it_says_when_followed(readers: Readers, recipe: list[Step]) -> None:
    for step in recipe:
        readers.follow(step)
