"""A passive neighbor in a VRF without a listener is reported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gatekeeper.policy.sessions import SessionPolicy
from plugin.configuration.vrf import is_in_vrf, unheard
from tests.gatekeeper.world import policies


@pytest.fixture
def accept(tmp_path: Path) -> Path:
    """Return net.ipv4.tcp_l3mdev_accept, off as by default."""
    file = tmp_path / 'accept'
    file.write_text('0\n')
    return file


def session(interface: str | None, *, passive: bool = True) -> SessionPolicy:
    one = policies('r2')[0]
    return replace(one, interface=interface, connect_port=None if passive else 179)


def told(accept: Path, policy: SessionPolicy) -> list[str]:
    return list(unheard([policy], {'eth1', 'red'}.__contains__, accept))


@pytest.mark.parametrize('interface', ['eth1', 'red'])
def test_passive_neighbor_is_told_of_when_it_is_in_a_vrf(accept: Path, interface: str) -> None:
    (warning,) = told(accept, session(interface))
    assert 'tcp_l3mdev_accept' in warning


@pytest.mark.parametrize('interface', ['eth2', 'eth9', None])
def test_nothing_is_told_when_the_neighbor_is_in_no_vrf(
    accept: Path, interface: str | None
) -> None:
    assert not told(accept, session(interface))


def test_nothing_is_told_when_we_open_the_connection(accept: Path) -> None:
    assert not told(accept, session('eth1', passive=False))


@pytest.mark.parametrize('setting', ['1', None])
def test_nothing_is_told_when_the_listener_hears_all(accept: Path, setting: str | None) -> None:
    if setting is None:
        accept.unlink()
    else:
        accept.write_text(setting)
    assert not told(accept, session('eth1'))


@pytest.mark.parametrize('interface', ['lo', 'nowhere0'])
def test_interface_is_in_no_vrf_when_it_is_plain_or_missing(interface: str) -> None:
    assert not is_in_vrf(interface)
