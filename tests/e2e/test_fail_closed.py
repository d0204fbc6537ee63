"""Sudden death under the userspace backend, of whole daemons: sessions go down, and nothing is
said unsigned; nothing is left behind, and no other process is touched.

r1 opens both sessions to r2, is plain to r3, listens, and has become `nobody`; others have firewall
rules of their own there. What dies is r1's.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.reporting.events import EventName
from lab.demo.capture import Capture
from lab.impostors import Ending, Heard, inside, speak
from lab.topology import Node
from lab.topology.node import processes_in
from tcpao.userspace.rules.interface import NAME
from tcpao.verification.capture import read_packets
from tcpao.verification.known_keys import read_known_keys
from tcpao.verification.report import verify_capture
from tcpao.verification.segment import parse_ip
from tests.e2e.backends import under_userspace
from tests.e2e.configurations import FAMILIES, PREFIXES, ROUTES, ikev2, neighbor
from tests.e2e.conftest import Routers
from tests.e2e.pair import PORTS, R1, R2
from tests.e2e.router import PATIENCE, Router, within

pytestmark = under_userspace

AT_R3, R3 = '10.0.3.1', '10.0.3.3'
PLAIN = 'ipv4 unicast'
HOLD_TIME, PLAIN_HOLD_TIME = 9, 9
"""Seconds. Without a packet process a peer finds out when its hold time is over; if the plain
session's packets went there, it would have ended by then."""
HOLD_TIME_OVER = 'notification sent (4,0)'
"""RFC 4271 6.5."""
SYN_SECONDS = 1.5
NOBODY, ROOT = {'65534'}, {'0'}
SEQPACKET = '0005'
"""Of a socket in /proc/net/unix."""

OTHERS = """
table inet firewall {
    chain input {
        type filter hook input priority 0; policy accept;
        tcp dport 22 accept
        tcp sport 179 counter accept
    }
}
"""
OTHERS_MANGLE = [
    [command, '-t', 'mangle', '-A', chain, '-p', 'tcp', '--dport', '179', '-j', 'TOS', *tos]
    for command in ('iptables', 'ip6tables')
    for chain in ('INPUT', 'OUTPUT')
    for tos in (['--set-tos', '0xc0'],)
]
LISTINGS = (
    ['nft', 'list', 'ruleset'],
    ['iptables-save'],
    ['ip6tables-save'],
    ['iptables-legacy-save'],
    ['ip6tables-legacy-save'],
)
PRIORITY = re.compile(r'queue \d+: open: ')
COUNTERS = re.compile(r'packets \d+ bytes \d+|\[\d+:\d+\]')


def ruleset(node: Node) -> list[str]:
    """All rules that there are, of any program, by every tool; counters apart."""
    text = ''.join(node.run(command).stdout for command in LISTINGS)
    return [COUNTERS.sub('', line) for line in text.splitlines() if not line.startswith('#')]


def ours(rules: list[str]) -> list[str]:
    return [line for line in rules if NAME in line]


def standing(router: Router) -> list[str]:
    """Return the rules that protect; rules that give an open connection priority come a moment
    later."""
    rules = ours(ruleset(router.node))
    return sorted(line for line in rules if not PRIORITY.search(line))


def text(router: Router, peer: str, local: str, remote: str, pin: str) -> str:
    sessions = {session: f'{pin} {port};' for session, port in PORTS.items()}
    return neighbor(
        router.name,
        peer,
        local=local,
        remote=remote,
        protection=ikev2(router.name, peer, timeout=5, sessions=sessions),
        passive=router.name == 'r2',
        routes=ROUTES[router.name],
        hold_time=HOLD_TIME,
    )


class Scene:
    """The three routers, and what is to be seen of them."""

    def __init__(self, routers: Routers, wire: Capture) -> None:
        self.r1, self.r2, self.r3 = routers.r1, routers.r2, routers.r3
        self.wire = wire
        self.keys: list[dict[str, Any]] = []
        """Of r1's daemons that are no more."""
        self.before = ruleset(self.r1.node)
        plain = neighbor(
            'r1', 'r3', local=AT_R3, remote=R3, families=[PLAIN], hold_time=PLAIN_HOLD_TIME
        )
        self.r1.configure(text(self.r1, 'r2', R1, R2, 'source-port') + plain)
        self.r2.configure(text(self.r2, 'r1', R2, R1, 'peer-port'))
        self.r3.configure(
            neighbor(
                'r3',
                'r1',
                local=R3,
                remote=AT_R3,
                passive=True,
                families=[PLAIN],
                hold_time=PLAIN_HOLD_TIME,
            )
        )

    def up(self) -> None:
        """Who doesn't run is started; every session is up."""
        if not self.r3.is_running:
            self.r3.start(listen=R3, program=('exabgp',))
        if not self.r2.is_running:
            self.r2.start(listen=R2, drop=True)
        if not self.r1.is_running:
            self.r1.start(listen=R1, drop=True)
        for router, peer in ((self.r1, 'r2'), (self.r2, 'r1')):
            for session in FAMILIES:
                router.await_event(EventName.OPEN, session)
            router.await_established(*FAMILIES)
            router.await_routes(*PREFIXES[peer])
        self.r3.await_established(PLAIN)

    def remember_keys(self) -> None:
        """Those of the daemon of r1's that is about to end, or has ended."""
        self.keys += self.r1.key_list()

    def gated(self) -> list[tuple[str, str, int]]:
        """r1's connections to r2."""
        return [one for one in self.r1.connections() if one[1] == R2]

    def ended(self, router: Router) -> dict[str, int]:
        """Return how often each session has ended there so far."""
        return {session: len(router.named(EventName.END, session)) for session in FAMILIES}

    def plain_uptime(self) -> int:
        """Seconds, as r3 says."""
        return self.r3.established()[PLAIN]

    def assert_shut(self) -> None:
        """A host without a key gets no answer from r1's listener, whatever still runs there."""
        with inside(self.r2.node.namespace):
            assert speak(R2, (R1, 179), SYN_SECONDS) == Heard(Ending.NO_CONNECTION, b'')


@pytest.fixture(scope='module')
def scene(routers: Routers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    node = routers.r1.node
    node.run(['nft', '-f', '-'], input=OTHERS)
    for command in OTHERS_MANGLE:
        node.run(command)
    wire = Capture(routers.r2.node, 'eth1', tmp_path_factory.mktemp('wire') / 'wire.pcap')
    yield Scene(routers, wire)
    routers.stop()
    node.run(['nft', 'flush', 'ruleset'])


def users(pid: int) -> set[str]:
    status = Path(f'/proc/{pid}/status').read_text().splitlines()
    (words,) = (line.split()[1:] for line in status if line.startswith('Uid:'))
    return set(words)


def packet_process(router: Router) -> int:
    pid = router.packet_process()
    assert pid is not None
    return pid


# --- alive --------------------------------------------------------------------------------------


def test_only_the_packet_process_keeps_its_privileges(scene: Scene) -> None:
    scene.up()
    for router in (scene.r1, scene.r2):
        assert router.process is not None
        assert users(router.process.pid) == NOBODY
        assert users(packet_process(router)) == ROOT


def descriptors(pid: int) -> set[str]:
    """Return the open files of a process; the process, or a file, may be gone at any moment."""
    found = set()
    with suppress(OSError):
        for one in Path(f'/proc/{pid}/fd').iterdir():
            with suppress(OSError):
                found.add(os.readlink(one))
    return found


def parent(pid: int) -> int:
    (line,) = re.findall(r'^PPid:\t(\d+)$', Path(f'/proc/{pid}/status').read_text(), re.MULTILINE)
    return int(line)


def test_no_other_process_has_the_channel_that_keys_take(scene: Scene) -> None:
    scene.up()
    r1 = scene.r1
    assert r1.process is not None
    table = (r1.node.proc / 'net/unix').read_text().splitlines()[1:]
    channels = {f'socket:[{line.split()[6]}]' for line in table if line.split()[4] == SEQPACKET}
    assert channels
    holders = {pid for pid in processes_in([r1.node.namespace]) if channels & descriptors(pid)}
    # An impostor's packet process has a channel of its own: it is a child of the tests'.
    impostors = {pid for pid in holders if parent(pid) == os.getpid()} - {r1.process.pid}
    assert holders - impostors == {r1.process.pid, packet_process(r1)}


def test_rules_of_others_are_as_they_were(scene: Scene) -> None:
    scene.up()
    now = ruleset(scene.r1.node)
    assert ours(now)
    rest = iter(now)
    missing = [line for line in scene.before if line not in rest]
    assert not missing, 'in the order that they had'


# --- death --------------------------------------------------------------------------------------


def test_killed_packet_process_ends_only_its_sessions(scene: Scene) -> None:
    scene.up()
    r1, r2 = scene.r1, scene.r2
    uptime, plain = scene.plain_uptime(), scene.r3.connections()
    ended = scene.ended(r2)
    os.kill(packet_process(r1), signal.SIGKILL)
    within(PATIENCE, lambda: not scene.gated(), lambda: r1.told('connections closed'))
    r1.await_log('the userspace backend is dead: the packet process ended with status -9')
    assert 'the userspace backend is dead' in ''.join(r1.ask('show ikev2'))
    scene.assert_shut()
    within(
        PATIENCE,
        lambda: not r2.established(),
        lambda: r2.told('the hold time is over'),
    )
    for session, count in ended.items():
        end = r2.await_event(EventName.END, session, count=count + 1)
        assert HOLD_TIME_OVER in str(end.details['cause'])
    assert not scene.gated(), 'nor has it come up again'
    # It has lived on for longer than its hold time.
    within(
        PATIENCE,
        lambda: scene.plain_uptime() >= uptime + PLAIN_HOLD_TIME,
        lambda: scene.r3.told('the plain session goes on'),
    )
    assert scene.r3.connections() == plain
    assert r1.is_running
    assert ours(ruleset(r1.node)), 'what drops the packets now'


def test_restart_after_that_is_protected_again(scene: Scene) -> None:
    scene.remember_keys()
    scene.r1.kill(signal.SIGTERM)
    scene.up()
    assert len(scene.gated()) == len(PORTS)
    scene.remember_keys()
    scene.r1.kill(signal.SIGTERM)
    assert ruleset(scene.r1.node) == scene.before


def test_killed_daemon_leaves_nothing_behind(scene: Scene) -> None:
    scene.up()
    scene.remember_keys()
    r2 = scene.r2
    ended = scene.ended(r2)
    # Waits for the end of the packet process too.
    scene.r1.kill()
    for session, count in ended.items():
        end = r2.await_event(EventName.END, session, count=count + 1)
        # By a RST under the key.
        assert HOLD_TIME_OVER not in str(end.details['cause'])
    assert not r2.connections()
    assert ruleset(scene.r1.node) == scene.before


def test_ports_stay_shut_when_both_are_killed_together(scene: Scene) -> None:
    scene.up()
    r1 = scene.r1
    helper = packet_process(r1)
    scene.remember_keys()
    # So that it can't act on the daemon's death.
    os.kill(helper, signal.SIGSTOP)
    os.kill(helper, signal.SIGKILL)
    r1.kill()
    left = standing(r1)
    assert left
    scene.assert_shut()
    scene.up()
    r1.await_log('left behind by a process that was killed, and removed: ')
    assert len(standing(r1)) == len(left), 'the old ones have gone'
    scene.remember_keys()
    r1.kill(signal.SIGTERM)
    assert ruleset(r1.node) == scene.before


def test_every_octet_was_signed_on_the_wire(scene: Scene, tmp_path: Path) -> None:
    scene.wire.close()
    table = tmp_path / 'keys.json'
    table.write_text(json.dumps(scene.keys))
    table.chmod(0o600)
    report = verify_capture(scene.wire.path, read_known_keys(table))
    # And the SYNs of those who tried the listener.
    tried = report.unsigned
    assert report.good > 0
    assert report.bad == report.unverifiable == 0, report.to_text()
    segments = [parse_ip(packet.octets) for packet in read_packets(scene.wire.path)]
    bare = [one for one in segments if one is not None and one.ao_option() is None]
    assert len(bare) == tried
    assert all(str(one.source) == R2 and one.is_opening for one in bare)


# --- a firewall that is reloaded ----------------------------------------------------------------


def test_firewall_flush_resets_only_what_it_has_opened(scene: Scene) -> None:
    scene.up()
    r1 = scene.r1
    uptime = scene.plain_uptime()
    rules = standing(r1)
    ended = scene.ended(r1)
    opened = {session: len(r1.named(EventName.OPEN, session)) for session in FAMILIES}
    r1.node.run(['nft', 'flush', 'ruleset'])
    for session in FAMILIES:
        r1.await_event(EventName.END, session, count=ended[session] + 1)
        r1.await_event(EventName.OPEN, session, count=opened[session] + 1)
    r1.await_established(*FAMILIES)
    assert standing(r1) == rules
    assert scene.plain_uptime() >= uptime
    scene.assert_shut()
