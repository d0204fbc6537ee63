"""The look of `gatekeeper doctor` at a host: parsers, and real namespaces."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.tools.doctor.host import accepts_before_ours, capabilities, mtus, sockets_in

UDP = """\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
  123: 00000000:01F4 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 777 2
"""
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100000A:00B3 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 42 1
   1: 0100000A:00B3 0200000A:9C41 01 00000000:00000000 00:00000000 00000000     0        0 43 1
"""


def test_sockets_finds_bound_udp_sockets() -> None:
    assert list(sockets_in(UDP, 'udp')) == [(500, '777')]


def test_sockets_finds_only_listeners_when_tcp() -> None:
    assert list(sockets_in(TCP, 'tcp')) == [(179, '42')]


def test_capabilities_are_read_as_a_mask() -> None:
    assert capabilities('Name:\tx\nCapEff:\t0000000000001400\n') == 0x1400
    assert capabilities('Name:\tx\n') == 0


@pytest.mark.parametrize(
    ('rules', 'found'),
    [
        ('-P INPUT ACCEPT\n-A INPUT -p tcp -j ACCEPT\n', ['-A INPUT -p tcp -j ACCEPT']),
        ('-A INPUT -j exabgp-gatekeeper-in\n-A INPUT -p tcp -j ACCEPT\n', []),
        ('-A OUTPUT -p tcp -j ACCEPT\n-A INPUT -j exabgp-gatekeeper-in\n',
         ['-A OUTPUT -p tcp -j ACCEPT']),
        ('-A FORWARD -p tcp -j ACCEPT\n', []),
        ('-A INPUT -p tcp -j MARK --set-xmark 0x1/0xffffffff\n', []),
    ],
)  # fmt: skip
def test_accepts_are_those_before_a_jump_to_ours(rules: str, found: list[str]) -> None:
    assert accepts_before_ours(rules) == found


def test_mtus_are_those_of_interfaces_that_are_up(tmp_path: Path) -> None:
    for name, flags in (('eth0', '0x1003'), ('eth1', '0x1002')):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'flags').write_text(flags)
        (tmp_path / name / 'mtu').write_text('1500\n')
    assert list(mtus(tmp_path)) == [('eth0', 1500)]


def doctor(*before: str) -> tuple[int, dict[str, dict[str, Any]]]:
    done = subprocess.run(
        [*before, sys.executable, '-m', 'gatekeeper', 'doctor', '--json'],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert not done.stderr
    return done.returncode, {finding['subject']: finding for finding in json.loads(done.stdout)}


@pytest.mark.native
def test_doctor_says_sessions_can_come_up_as_root(own_namespace: None) -> None:
    status, findings = doctor()
    assert status == 0
    assert findings['user-space TCP-AO']['verdict'] == 'ok'
    assert findings['udp 500']['verdict'] == 'ok'


@pytest.mark.native
def test_doctor_names_who_has_the_port_of_ike(own_namespace: None) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(('0.0.0.0', 500))
        _, findings = doctor()
    assert 'python' in findings['udp 500']['text']


@pytest.mark.native
def test_doctor_shows_a_foreign_rule_of_mangle(own_namespace: None) -> None:
    rule = ['INPUT', '-p', 'tcp', '-j', 'ACCEPT']
    subprocess.run(['iptables', '-t', 'mangle', '-A', *rule], check=True)
    _, findings = doctor()
    assert findings['foreign rules']['verdict'] == 'warning'
    assert '-p tcp -j ACCEPT' in findings['foreign rules']['text']


@pytest.mark.native
def test_doctor_says_what_is_missing_without_privileges(own_namespace: None) -> None:
    status, findings = doctor('setpriv', '--bounding-set=-net_admin', '--inh-caps=-net_admin')
    assert findings['privileges']['verdict'] == 'warning'
    assert findings['user-space TCP-AO']['verdict'] != 'ok'
    assert status == (1 if findings['kernel TCP-AO']['verdict'] == 'bad' else 0)


@pytest.mark.native
def test_doctor_leaves_nothing_behind(own_namespace: None) -> None:
    def rules() -> str:
        return subprocess.run(['iptables-save'], capture_output=True, text=True, check=True).stdout

    doctor()
    assert 'exabgp-gatekeeper' not in rules()
