"""A packet process and Linux's own TCP-AO, each as client and as server, on one wire.

The kernel is the oracle: it drops what isn't signed as it would sign it, and counts. Bad networks
are netem's.
"""

from __future__ import annotations

import dataclasses
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import scapy.contrib.tcpao as oracle
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from tcpao.installer import Install, Remove, SetRNext, Where
from tcpao.mkt import ALGORITHMS, Mkt
from tcpao.verification.known_keys import KnownKey
from tcpao.verification.report import Report, verify_capture
from tcpao.verification.segment import Flag
from tests.tcpao.test_installer_conformance import mkts
from tests.tcpao.userspace.interop_table import Table
from tests.tcpao.userspace.packets import ADDRESSES
from tests.tcpao.userspace.sites import (
    End,
    Session,
    Site,
    Socket,
    captured,
    connect,
    kernel,
    userspace,
    wait_until,
    wired,
)

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures('kernel_namespace')]

LINGER = socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)

KIB = 1 << 10
MIB = 1 << 20

COMMON = sorted(name for name, algorithm in ALGORITHMS.items() if algorithm.linux_name)


@dataclasses.dataclass
class Wire:
    """Both ends, and what they listen on."""

    sites: tuple[Site, Site]
    ends: dict[str, End]
    listeners: dict[tuple[str, int], Socket]
    port: int = 41000

    def session(self, client: str, version: int, **more: object) -> Session:
        """A connection from this end to the other."""
        server = other(client)
        self.port += 1
        return connect(
            self.ends[client],
            self.ends[server],
            self.listeners[server, version],
            version,
            self.port,
            **more,  # type: ignore[arg-type]
        )

    @contextmanager
    def netem(self, *what: str) -> Iterator[None]:
        """Both directions of the wire are that bad."""
        for site in self.sites:
            site.run('tc', 'qdisc', 'add', 'dev', 'wire', 'root', 'netem', *what)
        try:
            yield
        finally:
            for site in self.sites:
                site.run('tc', 'qdisc', 'del', 'dev', 'wire', 'root')


def other(end: str) -> str:
    return 'kernel' if end == 'userspace' else 'userspace'


@contextmanager
def wire(mtu: int = 1500) -> Iterator[Wire]:
    with ExitStack() as stack:
        sites = stack.enter_context(wired(mtu))
        ends = {
            'userspace': stack.enter_context(userspace(sites[0])),
            'kernel': stack.enter_context(kernel(sites[1])),
        }
        listeners = {
            (name, version): end.listen(ADDRESSES[version][number])
            for number, (name, end) in enumerate(ends.items())
            for version in (4, 6)
        }
        yield Wire(sites, ends, listeners)


@pytest.fixture(scope='module')
def shared() -> Iterator[Wire]:
    """One wire for all tests that don't change it: to start a packet process takes long here."""
    with wire() as made:
        yield made


@pytest.fixture(scope='module')
def report() -> Table:
    return Table('tcp-ao-userspace-and-kernel')


@pytest.fixture(params=['userspace', 'kernel'], ids='client-{}'.format)
def client(request: pytest.FixtureRequest) -> str:
    """Who connects; the other end listens."""
    name: str = request.param
    return name


VERSIONS = pytest.mark.parametrize('version', [4, 6], ids='ipv{}'.format)


@VERSIONS
@pytest.mark.parametrize('algorithm', COMMON)
@pytest.mark.parametrize('tcp_options', [True, False], ids=['covered', 'not-covered'])
def test_every_common_suite_works_with_the_kernel(
    shared: Wire, report: Table, client: str, version: int, algorithm: str, tcp_options: bool
) -> None:
    with report.row(client, other(client), version, 'a session', algorithm, tcp_options):
        one = shared.session(client, version, algorithm=algorithm, tcp_options=tcp_options)
        one.talk()
        one.transfer(64 * KIB)
        one.transfer(64 * KIB, back=True)
        one.nothing_bad()
        for end, mkt in ((one.client, one.ours), (one.server, one.theirs)):
            (key,) = end.state(mkt.pair).keys
            assert key.good > 0
        one.close()


def rotate(one: Session, first: str) -> None:
    """A successor on both ends; `first` moves its RNext first, the other follows."""
    new = dict(zip(('ours', 'theirs'), mkts(one.ours.pair, (5, 6), b'successor'), strict=True))
    ends = {'ours': one.client, 'theirs': one.server}
    second = 'theirs' if first == 'ours' else 'ours'
    ends[second].do(Install(new[second], Where.CONNECTION))
    ends[first].do(Install(new[first], Where.CONNECTION), SetRNext(new[first]))
    one.talk()
    state = ends[second].state(new[second].pair)
    assert state.current == new[second].send_id, "follows the peer's RNextKeyID"
    ends[second].do(SetRNext(new[second]))
    one.talk()
    one.talk()
    for name, old in (('ours', one.ours), ('theirs', one.theirs)):
        state = ends[name].state(old.pair)
        assert (state.current, state.rnext) == (new[name].send_id, new[name].recv_id)
        ends[name].do(Remove(old, Where.CONNECTION))
    one.ours, one.theirs = new['ours'], new['theirs']


@VERSIONS
@pytest.mark.parametrize('first', ['ours', 'theirs'], ids=['by-client', 'by-server'])
def test_rotation_works_with_the_kernel(
    shared: Wire, report: Table, client: str, version: int, first: str
) -> None:
    by = 'the client' if first == 'ours' else 'the server'
    with report.row(client, other(client), version, f'rotation by {by}'):
        one = shared.session(client, version)
        one.talk()
        rotate(one, first)
        one.transfer(64 * KIB)
        one.nothing_bad()
        one.close()


@VERSIONS
def test_connection_stays_when_the_sequence_wraps(
    shared: Wire, report: Table, client: str, version: int
) -> None:
    with report.row(client, other(client), version, 'wrap of the sequence space, reordered'):
        one = shared.session(client, version, isn=2**32 - 40_000)
        with shared.netem('delay', '4ms', 'reorder', '25%', '50%', 'duplicate', '2%'):
            one.transfer(256 * KIB)
        rotate(one, 'ours')
        one.transfer(64 * KIB, back=True)
        one.nothing_bad()
        one.close()


@pytest.mark.parametrize(
    ('what', 'netem', 'size'),
    [
        ('1 % loss', ('loss', '1%'), MIB),
        ('10 % loss', ('loss', '10%'), 128 * KIB),
        ('reordering', ('delay', '5ms', 'reorder', '25%', '50%'), MIB),
        ('duplication', ('duplicate', '10%'), MIB),
        ('all of it', ('delay', '3ms', '2ms', 'loss', '2%', 'duplicate', '2%'), 256 * KIB),
    ],
    ids=['loss-1', 'loss-10', 'reorder', 'duplicate', 'all'],
)
@VERSIONS
def test_transfer_is_whole_when_the_network_is_bad(
    shared: Wire,
    report: Table,
    client: str,
    version: int,
    what: str,
    netem: tuple[str, ...],
    size: int,
) -> None:
    with report.row(client, other(client), version, what):
        one = shared.session(client, version)
        with shared.netem(*netem):
            one.transfer(size)
            one.transfer(size // 4, back=True)
        one.nothing_bad()
        one.close()


@pytest.mark.parametrize('mtu', [1280, 9000])
def test_segments_fit_the_mtu_with_the_kernel(report: Table, client: str, mtu: int) -> None:
    with wire(mtu) as made:
        for version in (4, 6):
            with report.row(client, other(client), version, f'MTU {mtu}'):
                one = made.session(client, version)
                one.transfer(MIB)
                one.transfer(MIB, back=True)
                one.nothing_bad()
                one.close()
        for site in made.sites:
            names = ('IpFragCreates', 'Ip6FragCreates', 'IpFragFails')
            counters = site.run('nstat', '-asz', *names).splitlines()[1:]
            assert [line.split()[1] for line in counters] == ['0'] * 3


@VERSIONS
def test_transfer_is_whole_when_sack_blocks_fill_the_header(
    shared: Wire, report: Table, client: str, version: int
) -> None:
    with report.row(client, other(client), version, 'SACK-heavy'):
        one = shared.session(client, version)
        # A long window with many holes.
        with shared.netem('delay', '10ms', 'loss', '4%'):
            one.transfer(MIB)
            one.transfer(MIB, back=True)
        one.nothing_bad()
        for end in (one.client, one.server):
            counters = end.site.run(
                'nstat', '-asz', 'TcpExtTCPSackRecovery', 'TcpExtTCPSACKReneging'
            ).splitlines()[1:]
            recovered, reneged = (int(line.split()[1]) for line in counters)
            assert recovered > 0
            assert reneged == 0
        one.close()


@pytest.mark.timeout(600)
def test_full_table_arrives_intact(shared: Wire, report: Table, client: str) -> None:
    with report.row(client, other(client), 4, '64 MiB intact by hash'):
        one = shared.session(client, 4)
        one.transfer(64 * MIB)
        one.nothing_bad()
        one.close()


@VERSIONS
def test_rst_of_either_end_is_believed(
    shared: Wire, report: Table, client: str, version: int
) -> None:
    for ending in ('client', 'server'):
        with report.row(client, other(client), version, f'RST of the {ending}'):
            one = shared.session(client, version)
            one.talk()
            end, mkt, sock, left = (
                (one.client, one.ours, one.near, one.far)
                if ending == 'client'
                else (one.server, one.theirs, one.far, one.near)
            )
            end.installer.drop_connection(mkt.pair)
            sock.setsockopt(*LINGER)
            sock.close()
            with pytest.raises(ConnectionResetError):
                left.recv(1)
            one.close()


@VERSIONS
def test_orderly_end_closes_both_ends(
    shared: Wire, report: Table, client: str, version: int
) -> None:
    with report.row(client, other(client), version, 'FIN both ways'):
        one = shared.session(client, version)
        one.talk()
        one.near.shutdown(socket.SHUT_WR)
        assert one.far.recv(1) == b''
        one.far.shutdown(socket.SHUT_WR)
        assert one.near.recv(1) == b''
        one.nothing_bad()


@VERSIONS
def test_wrong_key_is_seen_by_the_other_end(
    shared: Wire, report: Table, client: str, version: int
) -> None:
    with report.row(client, other(client), version, 'segments under a wrong key are dropped'):
        one = shared.session(client, version)
        one.talk()
        wrong, _ = mkts(one.ours.pair, (5, 6), b'one secret')
        _, right = mkts(one.ours.pair, (5, 6), b'another')
        one.server.do(Install(right, Where.CONNECTION))
        one.client.do(Install(wrong, Where.CONNECTION))
        one.client.do(Remove(one.ours, Where.CONNECTION, switch_to=wrong))
        one.near.sendall(b'lost')

        def counted() -> bool:
            keys = one.server.state(one.theirs.pair).keys
            return [key.bad > 0 for key in keys if key.send_id == 6] == [True]

        wait_until(counted)
        one.close()


# --- what is on the wire --------------------------------------------------------------------

SCAPY = {'hmac-sha-1-96': 'HMAC-SHA-1-96', 'aes-128-cmac-96': 'AES-128-CMAC-96'}


def verified(path: Path, *keys: Mkt) -> Report:
    """The capture as `gatekeeper verify` sees it."""
    return verify_capture(
        path,
        [KnownKey(algorithm=key.algorithm, master_key=key.master_key) for key in keys],
    )


@VERSIONS
@pytest.mark.parametrize('algorithm', COMMON)
def test_capture_verifies_as_both_ends_did(
    shared: Wire, report: Table, tmp_path: Path, client: str, version: int, algorithm: str
) -> None:
    path = tmp_path / 'wire.pcap'
    with report.row(client, other(client), version, 'capture verified', algorithm):
        with captured(shared.sites[0], path):
            one = shared.session(client, version, algorithm=algorithm, isn=2**32 - 20_000)
            keys = [one.ours]
            one.transfer(48 * KIB)
            rotate(one, 'theirs')
            keys.append(one.ours)
            one.transfer(48 * KIB, back=True)
            one.nothing_bad()
            one.close()
        seen = verified(path, *keys)
        assert seen.passed(require_all=True)
        assert seen.bad == seen.unsigned == seen.unverifiable == 0
        assert {verdict.sne for verdict in seen.verdicts()} == {0, 1}, 'it has wrapped'
        assert len({verdict.option.key_id for verdict in seen.verdicts() if verdict.option}) == 4
        if algorithm in SCAPY:
            agrees_with_scapy(seen, keys)


def agrees_with_scapy(seen: Report, keys: list[Mkt]) -> None:
    """The same MACs by another implementation."""
    by_id = {key.send_id: key for key in keys} | {key.recv_id: key for key in keys}
    isns: dict[bool, int] = {}
    for verdict in seen.verdicts():
        octets, segment, option = verdict.octets, verdict.segment, verdict.option
        assert option is not None
        parsed = IP(octets) if octets[0] >> 4 == 4 else IPv6(octets)
        forward = segment.destination_port == 179
        if segment.flags & Flag.SYN:
            isns[forward] = segment.sequence
        key = by_id[option.key_id]
        algorithm = oracle.get_alg(SCAPY[key.algorithm.name])
        traffic_key = oracle.calc_tcpao_traffic_key(
            parsed,
            algorithm,
            key.master_key.reveal(),
            isns[forward],
            0 if segment.is_opening else isns[not forward],
        )
        sne = int(segment.sequence < isns[forward])
        mac = oracle.calc_tcpao_mac(
            parsed, algorithm, traffic_key, include_options=key.tcp_options, sne=sne
        )
        assert mac == option.mac


def settled(one: Session) -> dict[str, int]:
    """Segments that each end has found good, by its site, when no more of them come."""
    before: dict[str, int] = {}
    while True:
        now = {
            end.site.path: sum(key.good for key in end.state(mkt.pair).keys)
            for end, mkt in ((one.client, one.ours), (one.server, one.theirs))
        }
        if now == before:
            return now
        before = now
        # Longer than an acknowledgment is ever delayed.
        time.sleep(0.5)


@VERSIONS
def test_capture_of_a_bad_network_agrees_with_both_ends(
    shared: Wire, report: Table, tmp_path: Path, client: str, version: int
) -> None:
    """Loss, reordering and duplication around the wrap: at each end the capture holds as many
    good segments as that end has counted."""
    paths = [tmp_path / 'near', tmp_path / 'far']
    with report.row(client, other(client), version, 'captures of a bad network verified'):
        with captured(shared.sites[0], paths[0]), captured(shared.sites[1], paths[1]):
            one = shared.session(client, version, isn=2**32 - 40_000)
            with shared.netem('delay', '3ms', '2ms', 'loss', '2%', 'duplicate', '2%'):
                one.transfer(96 * KIB)
                one.transfer(32 * KIB, back=True)
            one.talk()
            counted = settled(one)
        # The server's listener has counted the SYN and the end of the handshake.
        of_handshake = {one.client.site.path: 0, one.server.site.path: 2}
        for site, path in zip(shared.sites, paths, strict=True):
            seen = verified(path, one.ours)
            assert seen.passed(require_all=True)
            assert sum(connection.tally.retransmitted for connection in seen.connections) > 0
            assert {verdict.sne for verdict in seen.verdicts()} == {0, 1}, 'it has wrapped'
            from_client = site is one.server.site
            arrived = sum(verdict.from_client is from_client for verdict in seen.verdicts())
            assert arrived == counted[site.path] + of_handshake[site.path]
        one.close()


@VERSIONS
def test_dropped_segment_is_bad_in_the_capture(
    shared: Wire, report: Table, tmp_path: Path, client: str, version: int
) -> None:
    path = tmp_path / 'wire.pcap'
    with report.row(client, other(client), version, 'bad segments in a capture'):
        with captured(shared.sites[1], path):
            one = shared.session(client, version)
            wrong, _ = mkts(one.ours.pair, (5, 6), b'one secret')
            _, right = mkts(one.ours.pair, (5, 6), b'another')
            one.server.do(Install(right, Where.CONNECTION))
            one.client.do(Install(wrong, Where.CONNECTION))
            one.client.do(Remove(one.ours, Where.CONNECTION, switch_to=wrong))
            one.near.sendall(b'lost')

            def dropped() -> int:
                return sum(key.bad for key in one.server.state(one.theirs.pair).keys)

            wait_until(lambda: dropped() > 0)
            count = dropped()
        # Under the key that the server holds they are bad, as many as it has dropped.
        seen = verified(path, one.ours, right)
        assert not seen.passed()
        assert seen.bad >= count > 0
        one.close()
