"""Which backend is chosen: the kernel is asked, and what can't be had is an error."""

from __future__ import annotations

import pytest

from tcpao.backend import Backend, BackendError, Preference
from tcpao.backend_choice import choose
from tcpao.kernel import backend
from tcpao.mkt import ALGORITHMS

NO = 'this kernel is built without TCP-AO'


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that has none."""
    monkeypatch.setattr(backend, 'why_unsupported', lambda name: NO)


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that has all of it."""
    monkeypatch.setattr(backend, 'why_unsupported', lambda name: None)


def test_kernel_is_chosen_when_it_can(complete: None) -> None:
    chosen: Backend = choose()
    assert (chosen.name, chosen.why) == ('kernel', 'this kernel has TCP-AO')
    chosen.start()
    assert chosen.fileno() is None
    assert chosen.died is None
    chosen.stop()


def test_user_space_is_chosen_with_a_reason_when_it_cannot(without: None) -> None:
    chosen = choose(Preference.AUTO)
    assert (chosen.name, chosen.why) == ('userspace', NO)


def test_kernel_is_not_chosen_when_it_has_half_of_tcp_ao(monkeypatch: pytest.MonkeyPatch) -> None:
    # RFC 5926: both suites are mandatory.
    lacking = {'aes-128-cmac-96': 'no cmac(aes128)'}
    monkeypatch.setattr(backend, 'why_unsupported', lacking.get)
    assert choose().why == 'no cmac(aes128)'


def test_user_space_is_chosen_when_it_is_asked_for(complete: None) -> None:
    assert choose(Preference('userspace')).name == 'userspace'


def test_choice_fails_when_the_kernel_asked_for_cannot(without: None) -> None:
    chosen = choose(Preference('kernel'))
    with pytest.raises(BackendError, match=f'{NO}; try tcp-ao-backend userspace'):
        chosen.start()


@pytest.mark.kernel
def test_kernel_is_chosen_in_the_guest() -> None:
    chosen = choose()
    chosen.start()
    capabilities = chosen.capabilities()
    assert capabilities.backend == chosen.name == 'kernel'
    assert capabilities.algorithms == {n for n, a in ALGORITHMS.items() if a.linux_name}
    assert not capabilities.matches_ports
    assert chosen.listener_installer() is not chosen.connection_installer()


@pytest.mark.native
def test_user_space_supports_every_suite(own_namespace: None) -> None:
    chosen: Backend = choose(Preference.USERSPACE)
    chosen.start()
    try:
        capabilities = chosen.capabilities()
        assert capabilities.backend == chosen.name == 'userspace'
        assert capabilities.algorithms == set(ALGORITHMS)
        assert capabilities.matches_ports
        assert chosen.listener_installer() is not chosen.connection_installer()
        assert isinstance(chosen.fileno(), int)
        assert chosen.died is None
    finally:
        chosen.stop()
        chosen.stop()
    assert chosen.died is not None
