"""An ExaBGP that isn't the one that we know is refused, by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from exabgp import version as version_module
from exabgp.reactor.loop import Reactor
from exabgp.version import release

from plugin import compat, install, patching


@pytest.fixture(autouse=True)
def upstream() -> object:
    """Names and signatures are checked before anything is patched."""
    patching.restore()
    yield
    install.install()


def test_installed_version_is_known() -> None:
    compat.check()
    compat.check_version(release)


@pytest.mark.parametrize('claimed', ['4.2.25', '6.0.0', 'mine'])
def test_version_is_the_installed_one_whatever_is_claimed(
    claimed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version_module, 'version', claimed)
    compat.check()


@pytest.mark.parametrize('text', ['5.0.13', '5.0.15', '5.1.0', '5.0.13-abc1234', '5.99'])
def test_versions_in_range_are_accepted(text: str) -> None:
    compat.check_version(text)


@pytest.mark.parametrize('text', ['5.0.12', '4.2.25', '6.0.0', '6.0.0-dev', 'unknown', ''])
def test_versions_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(compat.IncompatibleError, match=r'exabgp>=5\.0\.13,<6'):
        compat.check_version(text)


def refusal_when(changes: Callable[[pytest.MonkeyPatch], None]) -> str:
    with pytest.MonkeyPatch.context() as changed:
        changes(changed)
        with pytest.raises(compat.IncompatibleError) as caught:
            compat.check()
    return str(caught.value)


def test_missing_name_is_named() -> None:
    refusal = refusal_when(lambda changed: changed.delattr(Reactor, '_wait_for_io'))
    assert 'this exabgp has no exabgp.reactor.loop.Reactor._wait_for_io' in refusal


def test_changed_signature_is_named() -> None:
    refusal = refusal_when(
        lambda changed: changed.setattr(Reactor, 'reload', lambda self, force: True)
    )
    assert 'exabgp.reactor.loop.Reactor.reload takes (self force) instead of (self)' in refusal


def test_everything_that_is_patched_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that `wrap` and `replace` touch is in the table, class by class."""
    touched: list[str] = []
    real = patching.replace

    def replace(owner: object, name: str, value: object) -> None:
        touched.append(f'{getattr(owner, "__name__", "").split(".")[-1]}.{name}')
        real(owner, name, value)

    for part in (patching, *install.PARTS):
        if hasattr(part, 'replace'):
            monkeypatch.setattr(part, 'replace', replace)
    install.install()
    known = {
        name if '.' in name else f'{module.split(".")[-1]}.{name}'
        for module, name, _ in compat.LEANED_ON
    }
    assert set(touched) <= known
    assert len(touched) > 20
