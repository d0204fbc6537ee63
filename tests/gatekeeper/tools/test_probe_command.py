"""`gatekeeper probe` as a command: its options, what it needs of the host, its exit status."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.tools.cli import main
from ikev2.events import Datagram, KeysDeleted, RpSaRequested
from tests.gatekeeper.prober import PSK, far
from tests.gatekeeper.tools.test_probe import obliging
from tests.ikev2.bench import turned
from tests.ikev2.interop.driver import Driver
from tests.ikev2.interop.wire import OUR_ADDRESS, PEER_ADDRESS, Wire, wired
from tests.ikev2.wireshark import read_capture, write_capture

IDS = ['--local-id', 'fqdn', 'r1.lab', '--peer-id', 'fqdn', 'r2.lab']
SESSION = ['--session', 'ipv4', 'unicast']


@pytest.fixture
def psk_file(tmp_path: Path) -> str:
    path = tmp_path / 'psk'
    path.write_bytes(PSK)
    path.chmod(0o600)
    return str(path)


@pytest.fixture
def command(psk_file: str) -> list[str]:
    return ['probe', '127.0.0.1', *IDS, '--psk-file', psk_file, '--timeout', '1']


# --- what can't be tried ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (['--ike-port', '70000'], "'70000' is no port"),
        (['--timeout', '0'], "'0' is no number of seconds, from 1 to 600"),
        (['--local-address', 'r1'], "'r1' does not appear to be an IPv4 or IPv6 address"),
        (['--ike-policy', 'weak'], "invalid choice: 'weak'"),
        (['--peer-fingerprint', 'md5:00'], 'a fingerprint begins with sha256:'),
        ([*SESSION, '--lifetime', '5'], '5 is too small; expected seconds from'),
        ([*SESSION, '--algorithm', 'md5'], "'md5' is unknown; expected one of"),
        (['--session', 'ipv4'], 'expected 2 arguments'),
    ],
)
def test_wrong_word_is_an_error_at_once(
    options: list[str], said: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([*command, *options])
    assert end.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (['--local-id', 'name', 'r1'], "--local-id: identity type 'name' is not one of ip,"),
        (['--peer-id', 'ip', 'r1'], "--peer-id: 'r1' is not an IP address"),
        (['--peer-id', 'fqdn', 'r1.lab'], 'local and remote identity are the same'),
        (['--source-port', '4000'], '--source-port means nothing without --session'),
        ([*SESSION, '--source-port', '179'], '--source-port is the service port'),
        (['--session', 'ipv9', 'unicast'], "'ipv9' is no AFI; it is a number or ipv4, ipv6"),
        (['--session', 'ipv4', '256'], "'256' is no SAFI"),
        (['--local-address', '::1'], '--local-address ::1 and 127.0.0.1 are of different'),
        (['--local-address', '192.0.2.1'], 'cannot send to 127.0.0.1 from 192.0.2.1'),
        (['--local-ports', '4000', '4000'], '--local-ports: two different ports'),
        (['--private-key', '/nowhere'], '--private-key: a second credential beside --psk-file'),
        (['--psk-file', '/nowhere'], '--psk-file: cannot read key file /nowhere'),
        (['--ppk-id', 'lab'], '--ppk-id: it means nothing without ppk-file'),
        (['--ike-key-log', '/nowhere/log'], 'cannot write /nowhere/log: No such file'),
    ],
)
def test_impossible_probe_is_refused_at_once(
    options: list[str], said: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, *options]) == 2
    told = capsys.readouterr()
    assert told.err.startswith('gatekeeper probe: ')
    assert said in told.err
    assert not told.out


@pytest.mark.parametrize(
    ('address', 'said'),
    [
        ('fe80::2', "'fe80::2' needs its interface: fe80::2%eth1"),
        ('2001:db8::2%lo', 'has an interface, and is not link-local'),
        ('ff02::1%lo', "'ff02::1' is no address of one router"),
    ],
)
def test_address_is_refused_when_its_interface_is_wrong(
    address: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(['probe', address, *IDS])
    assert said in capsys.readouterr().err


def test_link_local_address_is_told_without_its_interface(
    psk_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['probe', 'fe80::2%nosuch', *IDS, '--psk-file', psk_file]) == 2
    assert 'cannot send to fe80::2: ' in capsys.readouterr().err


def test_probe_is_refused_without_a_credential(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['probe', '127.0.0.1', *IDS]) == 2
    assert (
        'the credential is missing; expected: psk-file, or private-key' in capsys.readouterr().err
    )


def test_key_file_is_refused_when_others_may_read_it(
    command: list[str], psk_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(psk_file).chmod(0o644)
    assert main(command) == 2
    assert 'chmod 0600' in capsys.readouterr().err


def test_pre_shared_key_is_refused_when_it_could_be_guessed(
    command: list[str], psk_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(psk_file).write_bytes(b'correct horse battery staple')
    assert main(command) == 2
    said = capsys.readouterr().err
    assert 'could be guessed' in said
    assert 'gatekeeper keygen psk' in said
    assert 'horse' not in said


def test_probe_does_not_ask_for_a_port_in_use(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The peer would take the request for news of a restart, and end the session."""
    with closing(socket.create_server(('127.0.0.1', 0))) as server:
        opened = closing(socket.create_connection(server.getsockname()))
        with opened as one, closing(server.accept()[0]):
            port = one.getsockname()[1]
            assert main([*command, *SESSION, '--source-port', str(port)]) == 2
    said = capsys.readouterr().err
    assert f'TCP port {port} of 127.0.0.1 cannot be reserved' in said
    assert 'would end that session' in said


def test_older_key_log_is_never_overwritten(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'log'
    path.write_text('kept')
    assert main([*command, '--ike-key-log', str(path)]) == 2
    assert 'a key log is always a new file' in capsys.readouterr().err
    assert path.read_text() == 'kept'


def test_closed_port_is_told_from_a_silent_one(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(('127.0.0.1', 0))
        port = str(taken.getsockname()[1])
        assert main([*command, '--ike-port', port]) == 1
        silent = capsys.readouterr().out
    # Not the one that is free now: the probe might be given it as its own.
    assert main([*command, '--ike-port', '1']) == 1
    closed = capsys.readouterr().out
    assert 'ICMP says: port unreachable' in closed
    assert 'ICMP' not in silent
    assert 'no IKE answer' in silent
    assert f'whether IKE runs at 127.0.0.1 on UDP port {port}' in silent


# --- what is tried, on real sockets ------------------------------------------------------------

Process = subprocess.Popen[str]


@pytest.fixture
def network() -> Iterator[Wire]:
    with wired() as both:
        yield both


@pytest.fixture
def driver(network: Wire) -> Iterator[Driver]:
    """Our endpoint, to be probed."""
    made = Driver(network.theirs, replace(far(), addresses=((PEER_ADDRESS, OUR_ADDRESS),)))
    yield made
    made.close()


@pytest.fixture
def begin(network: Wire, psk_file: str) -> Callable[..., Process]:
    """Starts a probe in its own namespace."""
    tool = str(Path(sys.executable).parent / 'gatekeeper')

    def start(*options: str) -> Process:
        command = ['ip', 'netns', 'exec', network.ours, tool, 'probe', str(PEER_ADDRESS)]
        return subprocess.Popen(
            [*command, *IDS, '--psk-file', psk_file, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def oblige(driver: Driver) -> None:
    """Answer what the probe asks, once."""
    waiting = [e for e in driver.events if isinstance(e, RpSaRequested | KeysDeleted)]
    for event in waiting:
        driver.events.remove(event)
        obliging(driver.endpoint, event, driver.now())


def ended(driver: Driver, process: Process) -> tuple[int, str, str]:
    """Serve until the probe has ended."""

    def look() -> bool:
        oblige(driver)
        return process.poll() is not None

    descriptor = os.pidfd_open(process.pid)
    try:
        assert driver.run_until(look, 60, [descriptor]), driver.events
    finally:
        os.close(descriptor)
    out, err = process.communicate()
    return process.returncode, out, err


@pytest.mark.netns
def test_key_is_agreed_over_real_sockets_and_lines_are_json(
    driver: Driver, begin: Callable[..., Process]
) -> None:
    status, out, err = ended(driver, begin('--json', *SESSION, '--service-port', '1790'))
    assert status == 0, out + err
    rows: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    assert rows[-1]['status'] == 0
    assert {row['exchange'] for row in rows} == {
        'probe',
        'IKE_SA_INIT',
        'IKE_AUTH',
        'CREATE_CHILD_SA',
        'INFORMATIONAL',
    }
    assert not err
    assert driver.endpoint.snapshot().peers[0].ike_sas == ()


@pytest.mark.netns
def test_key_log_is_announced_and_decrypts_the_probe(
    driver: Driver, begin: Callable[..., Process], tmp_path: Path
) -> None:
    said: list[Datagram] = []
    send, receive = driver.udp.send, driver.endpoint.receive_datagram

    def give(datagram: Datagram) -> None:
        said.append(datagram)
        send(datagram)

    def take(datagram: Datagram, now: float) -> None:
        said.append(turned(datagram))
        receive(datagram, now)

    driver.udp.send = give  # type: ignore[method-assign]
    driver.endpoint.receive_datagram = take  # type: ignore[method-assign]
    log = tmp_path / 'keys'
    status, out, err = ended(driver, begin('--ike-key-log', str(log)))
    assert status == 0, out + err
    assert f'THE KEYS OF THIS IKE SA ARE BEING WRITTEN TO {log}' in err
    assert out.endswith('IKE: all is proven\n')
    assert log.stat().st_mode & 0o777 == 0o600
    capture = tmp_path / 'ike.pcap'
    write_capture(capture, said)
    seen = read_capture(capture, log, tmp_path / 'home')
    assert {name for one in seen for name in one.names} == {'r1.lab', 'r2.lab'}


@pytest.mark.netns
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_interrupted_probe_leaves_nothing_and_tells_it(
    number: signal.Signals, driver: Driver, begin: Callable[..., Process]
) -> None:
    process = begin(*SESSION)
    # It is asked for a key, and doesn't answer.
    assert driver.run_until(lambda: bool(driver.all(RpSaRequested)))
    process.send_signal(number)
    status, out, err = ended(driver, process)
    assert status == 2, out + err
    assert 'interrupted' in out
    assert driver.run_until(lambda: driver.endpoint.snapshot().peers[0].ike_sas == ())
