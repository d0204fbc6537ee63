"""The order of packages, folders and files: imports go down, and never in a circle.

Imports under TYPE_CHECKING count: who reads a file has to know what it names. What doesn't hold
yet is listed with its reason below; an entry that isn't needed any more fails its test, so the
lists can only get shorter.
"""

from __future__ import annotations

import pytest

from tests.imports import IMPORTS, circles, lines_naming

Order = tuple[tuple[str, ...], ...]
"""From the top down; what stands in one row doesn't import each other."""

ORDERS: dict[str, Order] = {
    '': (('plugin',), ('gatekeeper',), ('ikev2', 'tcpao'), ('keymaterial',)),
    'gatekeeper': (
        ('__main__',),
        ('service', 'tools'),
        ('engine',),
        ('state',),
        ('reporting', 'configuration', 'adapter'),
        ('policy',),
        ('errors', 'clock'),
    ),
    'gatekeeper.engine': (
        ('core',),
        ('proving', 'policy_change', 'dropped_syns'),
        ('negotiated', 'keychains'),
        ('rotation',),
        ('ending',),
        ('expiry_warnings', 'evidence'),
    ),
    'plugin': (
        ('__main__',),
        ('launcher',),
        ('install',),
        ('reactor', 'commands'),
        ('connections',),
        ('configuration',),
        ('log', 'patching', 'compat'),
    ),
    'ikev2': (
        ('udp',),
        ('endpoint',),
        ('snapshot',),
        ('association',),
        ('unproven_work', 'redundancy'),
        ('exchanges',),
        ('sa',),
        ('context',),
        ('peer', 'cookies'),
        ('events',),
        ('limits',),
        ('authentication',),
        ('proposals',),
        ('wire', 'crypto'),
        ('errors',),
        ('constants', 'timers', 'rate', 'budget'),
    ),
    'tcpao': (
        ('backend_choice',),
        ('second_net',),
        ('userspace', 'verification'),
        ('kernel',),
        ('backend',),
        ('socket_installer',),
        ('deny_keys',),
        ('key_socket', 'prefixes'),
        ('installer', 'refusal'),
        ('kdf',),
        ('mkt', 'sne'),
    ),
    'tcpao.userspace': (
        ('__main__',),
        ('process', 'client'),
        ('protocol',),
        ('connections', 'rules'),
        ('wire', 'netlink', 'selectors'),
    ),
}

_IKE_SA = (
    'an IKE SA, its association and its exchanges name each other in annotations: a protocol of '
    'what they use would have some thirty members (docs/decisions/0014)'
)
_IKE_SA_FILES = frozenset(
    f'ikev2.{name}'
    for name in (
        'association',
        'context',
        'exchanges.follow_up',
        'exchanges.ike_auth',
        'exchanges.ike_init',
        'exchanges.ike_init_initiator',
        'exchanges.ike_init_responder',
        'exchanges.ike_intermediate',
        'exchanges.ike_rekey',
        'exchanges.informational',
        'exchanges.reauth',
        'exchanges.rp_initiator',
        'exchanges.rp_pending',
        'exchanges.rp_responder',
        'exchanges.unprotected',
        'sa.exchange',
        'sa.ike_sa',
        'redundancy',
        'unproven_work',
    )
)

UPWARD: dict[tuple[str, str], str] = {
    ('ikev2.context', 'ikev2.exchanges.ike_init_initiator'): _IKE_SA,
    ('ikev2.context', 'ikev2.exchanges.rp_pending'): _IKE_SA,
    ('ikev2.context', 'ikev2.sa.ike_sa'): _IKE_SA,
    ('ikev2.exchanges.ike_init', 'ikev2.association'): _IKE_SA,
    ('ikev2.exchanges.ike_init_initiator', 'ikev2.association'): _IKE_SA,
    ('ikev2.exchanges.ike_init_responder', 'ikev2.association'): _IKE_SA,
    ('ikev2.exchanges.ike_rekey', 'ikev2.association'): _IKE_SA,
    ('ikev2.exchanges.informational', 'ikev2.association'): _IKE_SA,
    ('ikev2.exchanges.rp_initiator', 'ikev2.association'): _IKE_SA,
    ('ikev2.exchanges.unprotected', 'ikev2.association'): _IKE_SA,
    ('ikev2.sa.ike_sa', 'ikev2.association'): _IKE_SA,
}
"""Imports that go up or sideways, and why they still do."""
CIRCLES: dict[frozenset[str], str] = {
    _IKE_SA_FILES: _IKE_SA,
}
"""Files among which there are still circles, and why."""
NAMING: dict[str, str] = {}
"""Files outside `plugin` that name ExaBGP or its commands, and why."""


def _row(order: Order, name: str) -> tuple[int, str]:
    for number, row in enumerate(order):
        for one in row:
            if name == one or name.startswith(f'{one}.'):
                return number, one
    raise AssertionError(f'{name} has no place in the order')


def _upward(base: str, order: Order) -> list[tuple[str, str]]:
    prefix = f'{base}.' if base else ''
    found = []
    for module, imported in IMPORTS.items():
        for other in imported if module.startswith(prefix) else ():
            if not other.startswith(prefix):
                continue
            mine = _row(order, module.removeprefix(prefix))
            theirs = _row(order, other.removeprefix(prefix))
            if theirs[0] < mine[0] or (theirs[0] == mine[0] and theirs != mine):
                found.append((module, other))
    return found


@pytest.mark.parametrize('base', ORDERS)
def test_imports_go_down(base: str) -> None:
    assert [one for one in _upward(base, ORDERS[base]) if one not in UPWARD] == []


def test_tools_import_only_state_and_below() -> None:
    tools = 'gatekeeper.tools'
    above = ('gatekeeper.engine', 'gatekeeper.service')
    importing = {
        (module, other)
        for module, imported in IMPORTS.items()
        for other in imported
        if (module.startswith(tools) and other.startswith(above))
        or (other.startswith(tools) and not module.startswith((tools, 'gatekeeper.__main__')))
    }
    assert importing == set()


def test_files_import_each_other_in_no_circle() -> None:
    assert [sorted(one) for one in circles(IMPORTS) if not any(one <= c for c in CIRCLES)] == []


def test_only_the_plugin_names_exabgp() -> None:
    assert [one for one in lines_naming('exabgp', 'show ikev2') if one[0] not in NAMING] == []


def test_every_exception_is_needed() -> None:
    upward = {one for base, order in ORDERS.items() for one in _upward(base, order)}
    naming = {name for name, _ in lines_naming('exabgp', 'show ikev2')}
    assert set(UPWARD) - upward == set()
    assert [known for known in CIRCLES if not any(c <= known for c in circles(IMPORTS))] == []
    assert set(NAMING) - naming == set()
