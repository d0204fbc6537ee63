"""Other users of a router's host, and other people's rules: nothing of theirs is signed, and what
passes the packet process by is no session.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gatekeeper.reporting.events import EventName
from gatekeeper.reporting.explanations import UNSEEN
from tests.e2e import hijacker
from tests.e2e.backends import under_userspace
from tests.e2e.configurations import ROUTES, neighbor
from tests.e2e.conftest import Routers
from tests.e2e.keychains import key, write_key
from tests.e2e.pair import R1, R2, throughout
from tests.e2e.router import Router, within

pytestmark = under_userspace

FAMILY = 'ipv4 unicast'
PORT = 40001
USER = 1234
SECONDS = 8.0
"""That a local user tries for: our own daemon tries again after 1, 2 and 3 s."""


@pytest.fixture(autouse=True)
def no_daemon_stays(routers: Routers) -> Iterator[None]:
    """Each test starts its own."""
    yield
    routers.stop()


def text(router: Router, *, pinned: bool = False, plain: bool = False) -> str:
    """r1 connects, r2 listens, under one manual key."""
    passive = router.name == 'r2'
    peer, local, remote = ('r1', R2, R1) if passive else ('r2', R1, R2)
    pin = f'{"peer" if passive else "source"}-port {PORT};' if pinned else ''
    protection = f'    ikev2 {{ keychain core; session {FAMILY} {{ {pin} }} }}\n'
    block = neighbor(
        router.name,
        peer,
        local=local,
        remote=remote,
        protection='' if plain else protection,
        passive=passive,
        families=[FAMILY],
        routes=ROUTES[router.name][:1],
    )
    return block if plain else f'keychain core {{\n{key(router, 1)}}}\n' + block


def start(router: Router, *, pinned: bool = False) -> None:
    write_key(router, 1)
    router.configure(text(router, pinned=pinned))
    router.start(
        listen=R2 if router.name == 'r2' else None,
        drop=True,
        # What is beneath it is another test's: here the packet process has to see for itself.
        environment={'exabgp_ikev2_secondnet': 'false'},
    )


def bring_up(routers: Routers, *, pinned: bool = False) -> None:
    for router in (routers.r2, routers.r1):
        start(router, pinned=pinned)
    for router in (routers.r1, routers.r2):
        router.await_established(FAMILY)


def hijack(router: Router, port: int) -> dict[str, int]:
    """Have a user without privileges try it; how often which result came."""
    program = Path(hijacker.__file__).read_text()
    arguments = (R1, str(port), R2, str(SECONDS))
    as_user = ('setpriv', f'--reuid={USER}', f'--regid={USER}', '--clear-groups')
    command = [*router.node.enter, *as_user, sys.executable, '-c', program, *arguments]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(count) for name, _, count in (one.partition('=') for one in said.split())}


@contextmanager
def rules_before_ours(*routers: Router) -> Iterator[None]:
    """Another user's script accepts what belongs to a connection, in both directions."""
    rules = [
        f'iptables -w -t mangle -{{}} {chain} -p tcp -j ACCEPT' for chain in ('INPUT', 'OUTPUT')
    ]
    for router in routers:
        for rule in rules:
            router.node.run(rule.format('I').split())
    try:
        yield
    finally:
        for router in routers:
            for rule in rules:
                router.node.run(rule.format('D').split())


def none_is_up(routers: Routers) -> None:
    assert not routers.r1.established()
    assert not routers.r2.established()


def is_told(router: Router) -> bool:
    return any(UNSEEN in str(row['last_error']) for row in router.show())


def test_local_user_is_not_signed_for_when_a_session_has_ended(routers: Routers) -> None:
    """A local user takes the ended session's pair; the peer's key is on its listener all the
    time."""
    bring_up(routers)
    ((_, _, port),) = {(a, b, c) for a, b, c in routers.r2.connections()}
    routers.r2.kill()
    start(routers.r2)
    results = hijack(routers.r1, port)
    # While the peer doesn't listen its TCP refuses an unsigned SYN.
    assert set(results) <= {'taken', 'silent', 'refused'}
    assert hijacker.PREFIX not in routers.r2.routes()
    routers.r1.await_established(FAMILY)


def test_local_user_cannot_take_a_pinned_port_between_attempts(routers: Routers) -> None:
    bring_up(routers, pinned=True)
    routers.r2.kill()
    assert set(hijack(routers.r1, PORT)) == {'taken'}
    start(routers.r2, pinned=True)
    routers.r1.await_established(FAMILY)


def test_log_names_the_user_when_a_port_of_ours_is_taken(routers: Routers) -> None:
    program = (
        'import socket; s = socket.socket(); '
        f's.bind(("{R1}", {PORT})); print("bound", flush=True); input()'
    )
    as_user = ('setpriv', f'--reuid={USER}', f'--regid={USER}', '--clear-groups')
    command = [*routers.r1.node.enter, *as_user, sys.executable, '-c', program]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == 'bound\n'
        start(routers.r1, pinned=True)
        routers.r1.await_log(f'of uid {USER}')
        other.communicate('\n')


def test_nothing_comes_up_when_rules_accept_before_ours(routers: Routers) -> None:
    """The peer is plain; a rule is there before the session."""
    r1, r2 = routers.r1, routers.r2
    start(r1)
    r1.ask('show neighbor')
    with rules_before_ours(r1):
        r2.configure(text(r2, plain=True))
        r2.start(listen=R2, program=('exabgp',))
        within(60.0, lambda: is_told(r1), lambda: r1.told('the bypass is told'))
    assert not r1.routes()
    assert not r1.named(EventName.ESTABLISHED)


def test_session_ends_when_rules_come_to_accept_before_ours(routers: Routers) -> None:
    """At both ends, which then speak in clear."""
    bring_up(routers)
    with rules_before_ours(routers.r1, routers.r2):
        # Octets that have to go somewhere.
        for router in (routers.r1, routers.r2):
            router.ask(f'announce route 203.0.113.{router.name[-1]}/32 next-hop self')
        within(
            60.0,
            lambda: routers.r1.named(EventName.REFUSED, cause=UNSEEN),
            lambda: routers.r1.told('the bypass is told'),
        )
        within(
            30.0,
            lambda: not routers.r1.established(),
            lambda: routers.r1.told('the session ends'),
        )
        # It doesn't come up again in clear.
        throughout(5.0, lambda: none_is_up(routers))
