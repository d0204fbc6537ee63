"""The words of the adapter in the gatekeeper's hints."""

from __future__ import annotations

import pytest

from gatekeeper.reporting.adapter_names import AdapterNames
from gatekeeper.reporting.explanations import Explanation
from gatekeeper.reporting.reasons import Reason

NAMES = AdapterNames(show='show it', listen_setting='listen on', ike_port_setting='the-port')


@pytest.mark.parametrize('hint', [reason.hint for reason in Reason])
def test_fill_leaves_no_brace_in_any_hint(hint: str) -> None:
    assert '{' not in NAMES.fill(hint)


def test_fill_puts_each_name_in() -> None:
    said = NAMES.fill('see {show}, {listen_setting} with it; {ike_port_setting} chooses')
    assert said == 'see show it, listen on with it; the-port chooses'


def test_explain_leaves_the_peers_words_alone() -> None:
    explained = NAMES.explain(Explanation('step', 'the peer said {show}', 'see {show}'))
    assert explained == Explanation('step', 'the peer said {show}', 'see show it')
