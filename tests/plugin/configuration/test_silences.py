"""Errors that ExaBGP overlooks, where a neighbor would lose its protection by them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from exabgp.configuration.configuration import Configuration

from plugin.configuration.neighbors import protection_of
from tests.plugin.texts import SECTION, neighbor

Write = Callable[[str], Path]

FAMILY = '    family { ipv4 unicast; }\n'
TEMPLATE = f'template {{\n  neighbor secure {{\n{SECTION}  }}\n}}\n'
OPEN_TEMPLATE = 'template {\n  neighbor plain {\n    hold-time 30;\n  }\n}\n'


def loaded(path: Path) -> Any:
    configuration = Configuration([str(path)])
    return configuration if configuration.reload() is True else None


def error_of(path: Path) -> str:
    configuration = Configuration([str(path)])
    assert configuration.reload() is False
    return str(configuration.error)


def test_missing_inherited_template_is_told(write: Write) -> None:
    text = TEMPLATE + neighbor(section='    inherit secur;\n')
    path = write(text)
    line = text[: text.index('inherit')].count('\n') + 1
    expected = f"{path} line {line}: inherit: no template 'secur' stands above"
    assert error_of(path).startswith(expected)


def test_inherited_template_that_comes_later_is_told(write: Write) -> None:
    path = write(neighbor(section='    inherit secure;\n') + TEMPLATE)
    assert "inherit: no template 'secure' stands above" in error_of(path)


def test_missing_one_of_several_templates_is_told(write: Write) -> None:
    path = write(TEMPLATE + neighbor(section='    inherit [ secure more ];\n'))
    assert "inherit: no template 'more' stands above" in error_of(path)


def test_template_that_inherits_a_template_is_told(write: Write) -> None:
    """ExaBGP takes the outer one only."""
    outer = 'template {\n  neighbor outer {\n    inherit secure;\n  }\n}\n'
    text = TEMPLATE.removesuffix('}\n') + outer.removeprefix('template {\n')
    path = write(text + neighbor(section='    inherit outer;\n'))
    assert 'inherit: a template does not inherit from another' in error_of(path)


def test_reload_judges_its_own_text_only(write: Write) -> None:
    path = write(OPEN_TEMPLATE + neighbor(section='    inherit none;\n'))
    configuration = loaded(path)
    assert configuration is not None
    write(TEMPLATE + neighbor(section='    inherit secure;\n'))
    assert configuration.reload() is True, str(configuration.error)
    (one,) = configuration.neighbors.values()
    assert protection_of(one) is not None


def test_extra_brace_before_the_section_is_told(write: Write) -> None:
    """The neighbor ends, then the configuration: the section is never read."""
    text = neighbor(section='    }\n    }  # too many\n' + SECTION)
    line = text[: text.index('# too many')].count('\n') + 1
    path = write(text)
    expected = f'{path} line {line}: }}: this brace closes nothing'
    assert error_of(path).startswith(expected)


def test_extra_brace_after_a_protected_neighbor_is_told(write: Write) -> None:
    path = write(neighbor() + '}\n' + neighbor(peer='127.0.0.3'))
    assert 'what follows it would be ignored' in error_of(path)


@pytest.mark.parametrize('missing', [1, 2])
def test_missing_brace_at_the_end_is_told(missing: int, write: Write) -> None:
    text = neighbor()
    for _ in range(missing):
        text = text[: text.rindex('}')] + text[text.rindex('}') + 1 :]
    path = write(text)
    assert error_of(path).startswith(f'{path} line 7: ikev2: ')
    assert 'does not end' in error_of(path)


OPEN = {
    'an unknown template': OPEN_TEMPLATE + neighbor(section='    inherit none;\n'),
    'a brace too many': neighbor(section='') + '}\nwhat;\nfollows\n',
    'a brace missing': neighbor(section='').removesuffix('}\n'),
}


@pytest.mark.parametrize('name', OPEN)
def test_file_without_any_section_loads_as_upstreams(name: str, write: Write) -> None:
    configuration = loaded(write(OPEN[name]))
    assert configuration is not None
    assert len(configuration.neighbors) == 1
