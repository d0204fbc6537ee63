"""A suite that the backend of this daemon can't do is an error of the configuration, as is a
backend that this host can't have: told at once, and nothing changes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from exabgp.configuration.configuration import Configuration

from lab.tcpao_kernel import has_tcp_ao
from plugin.connections import runtime
from plugin.reactor import lifecycle
from tcpao import backend
from tcpao.installer import Capabilities
from tcpao.mkt import ALGORITHMS
from tcpao.userspace.wire.signing import supported
from tests.descriptors import descriptors
from tests.plugin.doubles import Daemon
from tests.plugin.texts import SECTION, neighbor
from tests.tcpao.benches import namespace

Start = Callable[..., Daemon]

HKDF = 'hmac-sha256-128-hkdf'
KMAC = 'kmac256-128'
KERNEL = Capabilities(
    'kernel',
    frozenset(name for name, each in ALGORITHMS.items() if each.linux_name),
    matches_ports=False,
    counts_sent=False,
)


def asking(*statements: str, peer: str = '127.0.0.2') -> str:
    """A protected neighbor with these in its `ikev2` section."""
    section = SECTION.replace('psk-file', f'{" ".join(statements)} psk-file')
    return neighbor(section=section, peer=peer)


@pytest.fixture
def chain(tmp_path: Path) -> Callable[[str], str]:
    """A neighbor under a keychain whose second key is of this algorithm."""
    path = tmp_path / 'k1'
    path.write_bytes(b'a secret that nobody knows, of 32 octets and more')
    path.chmod(0o600)

    def writer(algorithm: str) -> str:
        keys = ''.join(
            f'    key {number} {{\n        send-id {number};\n        recv-id {number};\n'
            f'        algorithm {name};\n        key-file "k1";\n    }}\n'
            for number, name in ((1, 'hmac-sha-1-96'), (2, algorithm))
        )
        section = '    keychain core;\n'
        return f'keychain core {{\n{keys}}}\n{neighbor(section=section, peer="127.0.0.3")}'

    return writer


@pytest.fixture
def no_pycryptodome(monkeypatch: pytest.MonkeyPatch) -> Capabilities:
    """Return what a packet process can do without PyCryptodome, which can't be imported here."""
    for name in ('Crypto', 'Crypto.Hash'):
        monkeypatch.setitem(sys.modules, name, None)
    able = supported.__wrapped__()
    return Capabilities('userspace', able, matches_ports=True, counts_sent=False)


def refused(one: Daemon, load: Callable[[], bool]) -> str:
    """The load's error; everything is as before it."""

    def state() -> tuple[object, ...]:
        running = runtime.of(one.reactor)
        return (
            dict(one.configuration.neighbors),
            dict(one.reactor._peers),
            None if running is None else running.policies,
            list(one.gatekeeper.policies),
        )

    before = state()
    assert not load()
    assert state() == before
    return str(one.configuration.error)


# --- suites that the kernel doesn't have --------------------------------------------------------


@pytest.mark.parametrize('name', [n for n, a in ALGORITHMS.items() if a.linux_name is None])
def test_kernel_backend_refuses_a_suite_of_userspace(daemon: Start, name: str) -> None:
    one = daemon(asking(f'algorithm {name};'))
    one.gatekeeper.capabilities = KERNEL
    said = refused(one, one.begin)
    assert said.startswith('ikev2: neighbor 127.0.0.2 session ')
    assert said.endswith(
        f'algorithm {name}: the kernel backend has no such suite; try tcp-ao-backend userspace'
    )
    assert runtime.of(one.reactor) is None
    assert one.gatekeeper.log == ['start', 'stop']


def test_one_such_suite_among_others_is_enough(daemon: Start) -> None:
    """The peer may choose any that is offered."""
    one = daemon(asking(f'algorithm [ hmac-sha-1-96 {HKDF} ];'))
    one.gatekeeper.capabilities = KERNEL
    assert f'algorithm {HKDF}: the kernel backend has no such suite' in refused(one, one.begin)


def test_running_neighbors_stay_when_a_reload_asks_for_a_suite(daemon: Start) -> None:
    one = daemon(asking('tcp-ao-backend kernel;'))
    one.gatekeeper.capabilities = KERNEL
    assert one.begin()
    another = asking(f'algorithm {HKDF};', peer='127.0.0.3')
    said = refused(one, lambda: one.reload(asking('tcp-ao-backend kernel;') + another))
    assert 'neighbor 127.0.0.3 session ' in said
    assert said.endswith('the kernel backend has no such suite; try tcp-ao-backend userspace')
    changed = asking('tcp-ao-backend kernel;', f'algorithm {HKDF};')
    assert 'neighbor 127.0.0.2' in refused(one, lambda: one.reload(changed))
    assert one.gatekeeper.log == ['start', 'configure']
    assert one.reload(asking('algorithm hmac-sha-256-128;'))


def test_key_of_a_chain_is_named(daemon: Start, chain: Callable[[str], str]) -> None:
    one = daemon(asking())
    one.gatekeeper.capabilities = KERNEL
    assert one.begin()
    said = refused(one, lambda: one.reload(asking() + chain(HKDF)))
    assert 'neighbor 127.0.0.3 session ' in said
    assert f': keychain core key 2: algorithm {HKDF}: the kernel backend has no such suite' in said
    assert one.reload(asking() + chain('aes-128-cmac-96'))


def test_userspace_stays_for_the_life_of_a_daemon(daemon: Start) -> None:
    """An error's advice that a reload can't follow says that it takes a restart."""
    one = daemon(asking())
    one.gatekeeper.capabilities = KERNEL
    assert one.begin()
    wanted = asking('tcp-ao-backend userspace;', f'algorithm {HKDF};')
    said = refused(one, lambda: one.reload(wanted))
    assert said.endswith(
        'neighbor 127.0.0.2 wants tcp-ao-backend userspace, and this daemon runs kernel: restart it'
    )


@pytest.mark.parametrize('name', [n for n, a in ALGORITHMS.items() if a.linux_name is None])
def test_unavailable_suite_is_an_error_without_a_daemon_too(
    write: Callable[[str], Path], chain: Callable[[str], str], name: str
) -> None:
    """`exabgp validate`, on any kernel: the named backend has no such suite anywhere."""
    why = 'the kernel backend has no such suite; try tcp-ao-backend userspace'
    text = asking() + asking('tcp-ao-backend kernel;', f'algorithm {name};', peer='127.0.0.3')
    configuration = Configuration([str(write(text))])
    assert not configuration.reload()
    assert str(configuration.error).endswith(f'algorithm {name}: {why}')
    # The section of the neighbor that asks for it.
    line = text.rindex('    ikev2 {')
    assert f'line {text[:line].count(chr(10)) + 1}: ikev2: ' in str(configuration.error)
    text = asking('tcp-ao-backend auto;', f'algorithm {name};')
    assert Configuration([str(write(text))]).reload()


def test_kmac_is_an_error_without_a_daemon_or_pycryptodome(
    write: Callable[[str], Path], no_pycryptodome: Capabilities
) -> None:
    configuration = Configuration([str(write(asking(f'algorithm {KMAC};')))])
    assert not configuration.reload()
    assert 'needs pycryptodome: pip install' in str(configuration.error)


# --- KMAC without its library -------------------------------------------------------------------


def test_kmac_is_refused_without_pycryptodome(daemon: Start, no_pycryptodome: Capabilities) -> None:
    one = daemon(asking('tcp-ao-backend userspace;', f'algorithm {KMAC};'))
    one.gatekeeper.capabilities = no_pycryptodome
    said = refused(one, one.begin)
    assert 'ikev2: neighbor 127.0.0.2 session ' in said
    assert said.endswith(
        f'algorithm {KMAC}: {KMAC} needs pycryptodome: pip install "exabgp-gatekeeper[kmac]", or '
        f'choose another algorithm'
    )


def test_every_other_suite_loads_without_pycryptodome(
    daemon: Start, no_pycryptodome: Capabilities
) -> None:
    others = ' '.join(name for name in ALGORITHMS if name != KMAC)
    one = daemon(asking(f'algorithm [ {others} ];'))
    one.gatekeeper.capabilities = no_pycryptodome
    assert one.begin()


def test_reload_to_kmac_changes_nothing_without_pycryptodome(
    daemon: Start, no_pycryptodome: Capabilities, chain: Callable[[str], str]
) -> None:
    one = daemon(asking())
    one.gatekeeper.capabilities = no_pycryptodome
    assert one.begin()
    assert 'needs pycryptodome' in refused(one, lambda: one.reload(asking(f'algorithm {KMAC};')))
    said = refused(one, lambda: one.reload(asking() + chain(KMAC)))
    assert f'keychain core key 2: algorithm {KMAC}: {KMAC} needs pycryptodome' in said
    assert one.gatekeeper.log == ['start', 'configure']


def test_later_pycryptodome_needs_a_restart(
    daemon: Start, no_pycryptodome: Capabilities, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = daemon(asking())
    one.gatekeeper.capabilities = no_pycryptodome
    assert one.begin()
    monkeypatch.delitem(sys.modules, 'Crypto')
    said = refused(one, lambda: one.reload(asking(f'algorithm {KMAC};')))
    assert 'could not do it on this host when it started; restart the daemon' in said


@pytest.mark.native
def test_kmac_is_refused_when_the_packet_process_lacks_it(
    daemon: Start,
    no_pycryptodome: Capabilities,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Gatekeeper, backend and process are the real ones; their Python has no pycryptodome."""
    package = tmp_path / 'without' / 'Crypto'
    package.mkdir(parents=True)
    (package / '__init__.py').write_text('raise ImportError(__name__)\n')
    monkeypatch.setenv('PYTHONPATH', str(package.parent))
    one = daemon(asking('tcp-ao-backend userspace;'))
    monkeypatch.setattr(lifecycle, 'starter', lifecycle.start)
    with namespace():
        assert one.begin()
        assert one.runtime.gatekeeper.capabilities == no_pycryptodome
        said = refused(
            one,
            lambda: one.reload(asking('tcp-ao-backend userspace;', f'algorithm {KMAC};')),
        )
        assert f'algorithm {KMAC}: {KMAC} needs pycryptodome' in said
        one.stop()


# --- a backend that this host can't have --------------------------------------------------------


@pytest.fixture
def no_tcp_ao(monkeypatch: pytest.MonkeyPatch) -> None:
    """This kernel has none, or is made to say so."""
    if has_tcp_ao():
        monkeypatch.setattr(
            backend, 'why_unsupported', lambda name: 'this kernel is built without TCP-AO'
        )


def assert_no_tcp_ao(said: str) -> None:
    assert said.startswith('ikev2: no neighbor can be protected here: ')
    assert 'this kernel is built without TCP-AO' in said
    assert 'try tcp-ao-backend userspace, or auto' in said


def test_kernel_backend_is_refused_at_once_without_its_tcp_ao(
    daemon: Start, no_tcp_ao: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = daemon(asking('tcp-ao-backend kernel;'))
    monkeypatch.setattr(lifecycle, 'starter', lifecycle.start)
    before = descriptors()
    assert_no_tcp_ao(refused(one, one.begin))
    assert descriptors() == before
    assert runtime.of(one.reactor) is None
    assert not one.reactor._peers, 'no unprotected session instead'


def test_reload_is_refused_likewise_and_sessions_go_on(
    daemon: Start, no_tcp_ao: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = neighbor(section='')
    one = daemon(plain)
    monkeypatch.setattr(lifecycle, 'starter', lifecycle.start)
    assert one.begin()
    peer = one.peer()
    gated = asking('tcp-ao-backend kernel;', peer='127.0.0.3')
    assert_no_tcp_ao(refused(one, lambda: one.reload(plain + gated)))
    assert one.peer() is peer
    assert runtime.of(one.reactor) is None
