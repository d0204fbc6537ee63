"""One neighbor block with multi-session and several families: one session for each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from exabgp.configuration.configuration import Configuration
from exabgp.protocol.family import AFI, SAFI, Family
from exabgp.rib import RIB

from plugin.configuration.session_policies import policies_of
from tests.plugin.texts import SECTION, neighbor

Write = Callable[[str], Path]

V4, V6 = (AFI.ipv4, SAFI.unicast), (AFI.ipv6, SAFI.unicast)
ROUTES = (
    '    static { route 10.1.0.0/24 next-hop 127.0.0.1; '
    'route 2001:db8::/48 next-hop 2001:db8::1; }\n'
)
BOTH = 'ipv4 unicast; ipv6 unicast;'


def load(path: Path) -> Any:
    configuration = Configuration([str(path)])
    assert configuration.reload() is True, str(configuration.error)
    return configuration


def split(write: Write, **changes: Any) -> tuple[Any, Any, Any]:
    text = neighbor(**{'families': BOTH, 'multi_session': True, 'more': ROUTES, **changes})
    configuration = load(write(text))
    v4, v6 = configuration.neighbors.values()
    return configuration, v4, v6


def prefixes(changes: Iterable[Any]) -> list[str]:
    return [str(change.nlri).split()[0] for change in changes]


@pytest.fixture(autouse=True)
def no_ribs() -> None:
    RIB._cache.clear()


def test_each_family_is_a_neighbor_of_its_own_name(write: Write) -> None:  # MS-1
    configuration, v4, v6 = split(write)
    assert (v4.families(), v6.families()) == ([V4], [V6])
    assert list(configuration.neighbors) == [v4.name(), v6.name()]
    assert v4.name().endswith('family-allowed ipv4-unicast')


def test_each_family_has_its_own_routes_and_rib(write: Write) -> None:  # MS-2
    _, v4, v6 = split(write)
    assert v4.rib is not v6.rib
    for one, family, prefix in ((v4, V4, '10.1.0.0/24'), (v6, V6, '2001:db8::/48')):
        assert one.rib.outgoing.families == [family]
        assert prefixes(one.changes) == [prefix]
        assert prefixes(one.rib.outgoing.queued_changes()) == [prefix]


def test_rib_is_removed_when_no_session_has_its_name(write: Write) -> None:
    configuration, _, _ = split(write)
    assert set(RIB._cache) == set(configuration.neighbors)


def test_reload_keeps_what_an_api_process_has_announced(write: Write) -> None:
    configuration, v4, _ = split(write)
    rib = v4.rib.outgoing
    assert configuration.reload() is True
    (again, _) = configuration.neighbors.values()
    assert again.rib.outgoing is rib


def test_two_listening_blocks_differ_by_family(write: Write) -> None:  # MS-4
    more = '    listen 1790;\n'
    text = neighbor(families='ipv4 unicast;', multi_session=True, more=more) + neighbor(
        families='ipv6 unicast;', multi_session=True, more=more
    )
    assert len(load(write(text)).neighbors) == 2


def test_session_may_stand_in_one_block_only(write: Write) -> None:
    more = '    listen 1790;\n'
    path = write(
        neighbor(families=BOTH, multi_session=True, more=more)
        + neighbor(families='ipv6 unicast;', multi_session=True, more=more)
    )
    configuration = Configuration([str(path)])
    assert configuration.reload() is False
    assert 'the session ipv6 unicast with 127.0.0.2 already' in str(configuration.error)


def test_each_family_has_its_own_uid(write: Write) -> None:  # MS-5
    _, v4, v6 = split(write)
    assert v4.uid != v6.uid


def test_add_path_and_next_hops_are_of_the_family(write: Write) -> None:
    more = (
        ROUTES + '    add-path { ipv4 unicast; ipv6 unicast; }\n'
        '    nexthop { ipv4 unicast ipv6; ipv6 unicast ipv4; }\n'
        '    capability { add-path send/receive; }\n'
    )
    _, v4, v6 = split(write, more=more)
    assert (v4.addpaths(), v6.addpaths()) == ([V4], [V6])
    assert [known[:2] for known in v4.nexthops()] == [V4]
    assert [known[:2] for known in v6.nexthops()] == [V6]


def test_each_session_has_its_own_policy(write: Write) -> None:
    section = SECTION.replace(
        'psk-file "r.psk";',
        'psk-file "r.psk"; session ipv4 unicast { source-port 40001; algorithm hmac-sha-1-96; }'
        'session ipv6 unicast { source-port 40002; algorithm aes-128-cmac-96; lifetime 600; }',
    )
    configuration, _, _ = split(write, section=section)
    v4, v6 = policies_of(configuration.neighbors, configuration.ikev2_chains)
    assert (v4.source_port, v6.source_port) == (40001, 40002)
    assert (v4.algorithms, v6.algorithms) == (('hmac-sha-1-96',), ('aes-128-cmac-96',))
    assert (v4.lifetime, v6.lifetime) == (3600, 600)
    assert (v4.session.families, v6.session.families) == (((1, 1),), ((2, 1),))
    assert v4.pad == v6.pad


def test_open_neighbor_is_not_split(write: Write) -> None:
    """Upstream makes one session of it, in spite of multi-session: that is left alone."""
    text = neighbor(section='', families=BOTH, multi_session=True, more=ROUTES)
    (one,) = load(write(text)).neighbors.values()
    assert one.families() == [V4, V6]


def test_neighbor_is_not_split_without_multi_session(write: Write) -> None:
    (one,) = load(write(neighbor(families=BOTH, more=ROUTES))).neighbors.values()
    assert one.families() == [V4, V6]
    assert len(one.changes) == 2


def test_ipv6_route_makes_no_range_of_an_ipv4_peer(write: Write) -> None:
    """In ExaBGP the /32 of the route and that of the peer are one object."""
    more = '    static { route 2001:db8::/32 next-hop 2001:db8::1; }\n'
    (one,) = load(write(neighbor(families='ipv6 unicast;', more=more))).neighbors.values()
    assert one.range_size == 1


# --- what a reload restarts ---------------------------------------------------------------------


def after(write: Write, old: str, new: str) -> tuple[bool, bool]:
    """Return, for both sessions, whether a change of the section leaves them the same to ExaBGP."""
    section = SECTION.replace(
        'psk-file',
        'session ipv4 unicast { source-port 40001; } session ipv6 unicast { peer-port 7; }psk-file',
    )
    _, v4, v6 = split(write, section=section)
    _, v4_after, v6_after = split(write, section=section.replace(old, new))
    return v4 == v4_after, v6 == v6_after


@pytest.mark.parametrize(
    ('old', 'new', 'same'),
    [
        ('', '', (True, True)),
        ('source-port 40001', 'source-port 40009', (False, True)),
        ('peer-port 7', 'peer-port 8', (True, False)),
        ('psk-file', 'lifetime 100; algorithm hmac-sha-1-96; psk-file', (True, True)),
    ],
)
def test_exabgp_restarts_a_session_only_for_its_pins(
    write: Write, old: str, new: str, same: tuple[bool, bool]
) -> None:
    assert after(write, old, new) == same


def test_gained_or_lost_section_is_a_change(write: Write) -> None:
    (gated,) = load(write(neighbor())).neighbors.values()
    (bare,) = load(write(neighbor(section=''))).neighbors.values()
    assert gated != bare
    assert bare != gated


# --- what an API process says to the neighbor ---------------------------------------------------


def test_route_goes_to_the_session_of_its_family(write: Write) -> None:
    configuration, v4, v6 = split(write, more='')
    (change,) = load(
        write(neighbor(section='', more='    static { route 10.9.0.0/16 next-hop 127.0.0.1; }\n'))
    ).neighbors.values()
    (route,) = change.changes
    assert configuration.inject_change(list(configuration.neighbors), route) is True
    assert prefixes(v4.rib.outgoing.queued_changes()) == ['10.9.0.0/16']
    assert not list(v6.rib.outgoing.queued_changes())


def test_end_of_rib_goes_to_the_session_of_its_family(write: Write) -> None:
    configuration, v4, v6 = split(write)
    assert configuration.inject_eor(list(configuration.neighbors), Family(*V6)) is True
    assert (len(v4.eor), len(v6.eor)) == (0, 1)


def test_route_is_refused_when_no_session_has_its_family(write: Write) -> None:
    configuration, _, _ = split(write, families='ipv4 unicast; ipv4 mpls-vpn;', more='')
    (bare,) = load(
        write(
            neighbor(
                section='',
                families='ipv6 unicast;',
                more='    static { route 2001:db8::/48 next-hop 2001:db8::1; }\n',
            )
        )
    ).neighbors.values()
    assert configuration.inject_change(list(configuration.neighbors), bare.changes[0]) is False
