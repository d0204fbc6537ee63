"""The second net on a real kernel: what passes it, what doesn't, and how long it stays."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path

import pytest

from tcpao.mkt import IPAddress
from tcpao.second_net import client
from tcpao.second_net.client import NetError, SecondNet
from tcpao.second_net.leftovers import remove_left_behind
from tcpao.second_net.ruleset import Service
from tcpao.second_net.ways import existing
from tests.tcpao.userspace.sites import Site, wait_until

pytestmark = pytest.mark.native

CLIENT = {4: ip_address('10.0.0.1'), 6: ip_address('fd00::1')}
SERVER = {4: ip_address('10.0.0.2'), 6: ip_address('fd00::2')}
PORT, OTHER_PORT = 179, 646
SHORT = 0.5
"""Seconds in which nothing comes over a wire of this host."""

Hosts = tuple[Site, Site]


def services(version: int) -> list[Service]:
    return [(CLIENT[version], PORT)]


def listen(host: Site, address: IPAddress, port: int) -> socket.socket:
    with host.inside():
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        return socket.create_server((str(address), port), family=family)


def answers(host: Site, address: IPAddress, port: int) -> bool:
    with host.inside():
        try:
            socket.create_connection((str(address), port), SHORT).close()
        except TimeoutError:
            return False
    return True


def kill(net: SecondNet) -> None:
    assert net.pid is not None
    os.kill(net.pid, signal.SIGKILL)
    os.waitpid(net.pid, 0)


def nets(host: Site) -> list[str]:
    with host.inside():
        return [way.name(number) for way, number in existing()]


@pytest.mark.parametrize('version', [4, 6])
def test_plain_connection_is_shut_when_its_peer_is_protected(
    version: int, hosts: Hosts, net: SecondNet
) -> None:
    with closing(listen(hosts[1], SERVER[version], PORT)):
        assert answers(hosts[0], SERVER[version], PORT)
        net.keep(services(version))
        assert not answers(hosts[0], SERVER[version], PORT)
        # Its answer to the SYN, which may pass so that the backend can say what is wrong.
        wait_until(lambda: net.counters()['dropped_out'] > 0)
        net.keep([])
        assert answers(hosts[0], SERVER[version], PORT)


def test_our_own_plain_connection_does_not_leave(hosts: Hosts, net: SecondNet) -> None:
    net.keep(services(4))
    with closing(listen(hosts[0], CLIENT[4], PORT)):
        assert not answers(hosts[1], CLIENT[4], PORT)
    assert net.counters()['dropped_out'] > 0


def test_octets_on_a_plain_connection_pass_neither_way(hosts: Hosts, net: SecondNet) -> None:
    with closing(listen(hosts[1], SERVER[4], PORT)) as server:
        with hosts[0].inside():
            one = socket.create_connection((str(SERVER[4]), PORT))
        other, _ = server.accept()
        with one, other:
            net.keep(services(4))
            one.send(b'in clear')
            other.send(b'in clear')
            for end in (one, other):
                end.settimeout(SHORT)
                with pytest.raises(TimeoutError):
                    end.recv(100)
    counted = net.counters()
    assert counted['dropped_in'] > 0
    assert counted['dropped_out'] > 0


def test_other_ports_and_other_peers_are_untouched(hosts: Hosts, net: SecondNet) -> None:
    net.keep([(CLIENT[4], PORT)])
    with closing(listen(hosts[1], SERVER[4], OTHER_PORT)):
        assert answers(hosts[0], SERVER[4], OTHER_PORT)
    with closing(listen(hosts[1], SERVER[6], PORT)):
        assert answers(hosts[0], SERVER[6], PORT)
    assert net.counters() == {'dropped_in': 0, 'dropped_out': 0}


def test_net_stays_when_its_keeper_is_killed(hosts: Hosts, net: SecondNet) -> None:
    net.keep(services(4))
    kill(net)
    assert len(nets(hosts[1])) == 1
    with pytest.raises(NetError, match='its process'):
        net.keep([])
    assert net.counters() == {}
    with hosts[1].inside():
        assert len(remove_left_behind()) == 1
    assert nets(hosts[1]) == []


def test_net_stays_when_its_daemon_dies_and_goes_with_the_next(hosts: Hosts, keeper: None) -> None:
    daemon = (
        'import os; from ipaddress import ip_address\n'
        'from tcpao.second_net import client\n'
        'from tcpao.second_net.client import SecondNet\n'
        f'client.MODULE = {client.MODULE!r}\n'
        f'net = SecondNet(); net.start(); net.keep([(ip_address("{CLIENT[4]}"), {PORT})])\n'
        'print(net.pid, flush=True); os._exit(1)'
    )
    left = int(hosts[1].run(sys.executable, '-c', daemon, check=False))
    wait_until(lambda: not Path(f'/proc/{left}').exists())
    assert len(nets(hosts[1])) == 1
    second = SecondNet()
    with hosts[1].inside():
        second.start()
    # Until the next one's is there.
    assert len(nets(hosts[1])) == 1
    second.keep(services(6))
    assert len(nets(hosts[1])) == 1
    second.stop()
    assert nets(hosts[1]) == []


def test_two_daemons_have_a_net_each(hosts: Hosts, net: SecondNet) -> None:
    other = SecondNet()
    with hosts[1].inside():
        other.start()
    net.keep(services(4))
    other.keep(services(6))
    assert len(nets(hosts[1])) == 2
    with hosts[1].inside():
        assert remove_left_behind() == []
    other.stop()
    assert len(nets(hosts[1])) == 1


def test_net_is_made_anew_when_the_firewall_is_flushed(hosts: Hosts, net: SecondNet) -> None:
    net.keep(services(4))
    with closing(listen(hosts[1], SERVER[4], PORT)):
        for _ in range(3):
            hosts[1].run('nft', 'flush', 'ruleset')
            for table in ('raw', 'mangle'):
                hosts[1].run('iptables', '-t', table, '-F')
            wait_until(lambda: not answers(hosts[0], SERVER[4], PORT))
    assert len(nets(hosts[1])) == 1


def test_stop_removes_the_net_when_called_twice(hosts: Hosts, net: SecondNet) -> None:
    net.keep(services(4))
    net.stop()
    net.stop()
    assert nets(hosts[1]) == []
    assert net.missing == 'it has ended'


def test_net_of_iptables_goes_when_the_next_is_of_nft(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = SecondNet(), SecondNet()
    with hosts[1].inside():
        with monkeypatch.context() as patch:
            patch.setattr(client, 'MODULE', 'tests.tcpao.second_net.without_nft')
            first.start()
        first.keep(services(4))
        kill(first)
        second.start()
    second.keep(services(4))
    (there,) = nets(hosts[1])
    assert there.startswith('nftables')
    second.stop()
    assert nets(hosts[1]) == []


def test_net_is_refused_when_no_rules_can_be_made(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = SecondNet()
    with hosts[1].inside():
        monkeypatch.setattr(client, 'MODULE', 'tests.tcpao.second_net.without_rules')
        net.start()
    assert net.missing is not None
    assert 'nft is not installed' in net.missing
    assert 'iptables-save is not installed' in net.missing
    net.keep(services(4))
    assert nets(hosts[1]) == []


def test_net_is_refused_when_privileges_are_missing(hosts: Hosts) -> None:
    script = (
        'import ctypes; assert ctypes.CDLL(None).prctl(24, 12, 0, 0, 0) == 0\n'
        'from tcpao.second_net.client import SecondNet\n'
        'net = SecondNet(); net.start(); print(net.missing)'
    )
    assert 'not permitted' in hosts[1].run(sys.executable, '-c', script)
