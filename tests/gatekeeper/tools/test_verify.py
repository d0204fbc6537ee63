"""`gatekeeper verify`: exit status, table and JSON, refusals."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatekeeper.tools.cli import main
from tcpao.verification.capture import LinkType
from tcpao.verification.segment import Flag
from tests.tcpao.verification.test_capture import block, interface, packet, section
from tests.tcpao.wire import Key, Talk, write_pcap

KEY = Key(1, 2)


class Tool:
    """The command on files of a folder."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        self.keys = folder / 'keys.json'
        self.give(KEY.known())

    def give(self, *keys: dict[str, Any]) -> None:
        self.keys.touch(0o600)
        self.keys.write_text(json.dumps(keys))

    def verify(self, packets: list[bytes] | Path, *options: str) -> tuple[int, str, str]:
        """Status, standard output, standard error."""
        path = packets if isinstance(packets, Path) else self.folder / 'capture.pcap'
        if not isinstance(packets, Path):
            write_pcap(path, packets)
        status = main(['verify', str(path), '--keys', str(self.keys), *options])
        printed = self._capsys.readouterr()
        return status, printed.out, printed.err


@pytest.fixture
def tool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Tool:
    return Tool(tmp_path, capsys)


def bad() -> Talk:
    talk = Talk().open()
    talk.segment(True, Flag.ACK, b'x', key=Key(1, 2, b'guess'))
    return talk


# --- exit status ----------------------------------------------------------------------------


def test_status_is_0_when_all_is_good(tool: Tool) -> None:
    assert tool.verify(Talk().open().packets)[0] == 0


def test_status_is_1_when_anything_is_bad(tool: Tool) -> None:
    assert tool.verify(bad().packets)[0] == 1


def test_status_is_1_when_anything_is_unverifiable(tool: Tool) -> None:
    tool.give(KEY.known(send_id=1, recv_id=2))
    talk = Talk().open()
    talk.segment(True, Flag.ACK, b'x', key=Key(9, 9))
    assert tool.verify(talk.packets)[0] == 1


def test_status_is_1_when_a_segment_is_cut_short(tool: Tool) -> None:
    talk = Talk().open().say(True)
    talk.packets[-1] = talk.packets[-1][:-1]
    assert tool.verify(talk.packets)[0] == 1


def test_whole_packets_are_verified_when_a_capture_breaks_off(tool: Tool) -> None:
    """A killed tcpdump leaves such a capture."""
    for talk, status in ((Talk().open(), 0), (bad(), 1)):
        whole = write_pcap(tool.folder / 'whole', talk.say(True).packets).read_bytes()
        path = tool.folder / 'cut'
        path.write_bytes(whole[:-1])
        said, out, _ = tool.verify(path)
        assert said == status
        assert 'the capture breaks off: its last packet is cut' in out
        assert json.loads(tool.verify(path, '--json')[1])['cut_off'] is True
        told = json.loads(tool.verify(talk.packets, '--json')[1])
        assert told['cut_off'] is False
        assert told['good'] == json.loads(tool.verify(path, '--json')[1])['good'] + 1


def test_status_is_1_when_no_packet_is_whole(tool: Tool) -> None:
    path = tool.folder / 'cut'
    path.write_bytes(write_pcap(tool.folder / 'whole', Talk().open().packets).read_bytes()[:30])
    status, out, _ = tool.verify(path)
    assert status == 1
    assert 'nothing was verified' in out


def test_status_is_1_when_nothing_verified(tool: Tool) -> None:
    status, out, _ = tool.verify([])
    assert status == 1
    assert 'nothing was verified' in out


def test_unprotected_connections_fail_only_when_all_are_required(tool: Tool) -> None:
    packets = Talk().open().packets + Talk(client_port=5000, key=None).open().packets
    assert tool.verify(packets)[0] == 0
    status, out, _ = tool.verify(packets, '--require-all')
    assert status == 1
    assert '--require-all' in out


def test_status_is_1_when_a_protected_connection_has_unsigned(tool: Tool) -> None:
    talk = Talk().open()
    talk.segment(False, Flag.RST, unsigned=True)
    assert tool.verify(talk.packets)[0] == 1


@pytest.mark.parametrize('mode', [0o640, 0o604, 0o666])
def test_keys_are_refused_when_others_may_read_them(tool: Tool, mode: int) -> None:
    tool.keys.chmod(mode)
    status, out, err = tool.verify(Talk().open().packets)
    assert (status, out) == (2, '')
    assert 'chmod 0600' in err


def test_wrong_keys_are_refused_without_quoting_them(tool: Tool) -> None:
    tool.give({'algorithm': 'hmac-sha-1-96', 'master_key': 'c0ffee!'})
    status, out, err = tool.verify(Talk().open().packets)
    assert (status, out) == (2, '')
    assert "key 1: 'master_key' must be hex digits" in err
    assert 'c0ffee' not in err


def test_file_is_refused_when_it_is_no_capture(tool: Tool) -> None:
    path = tool.folder / 'notes.txt'
    path.write_text('not a capture')
    status, out, err = tool.verify(path)
    assert (status, out) == (2, '')
    assert 'neither pcap nor pcapng' in err


def test_missing_capture_is_refused(tool: Tool) -> None:
    assert 'No such file' in tool.verify(tool.folder / 'missing')[2]


def test_kmac_names_the_package_when_pycryptodome_is_missing(
    tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'Crypto.Hash', None)
    tool.give(Key(1, 2, algorithm='kmac256-128').known())
    status, out, err = tool.verify(Talk(key=Key(1, 2, algorithm='hmac-sha-256-128')).open().packets)
    assert (status, out) == (2, '')
    assert 'pip install "exabgp-gatekeeper[kmac]"' in err


# --- what it says ---------------------------------------------------------------------------


def test_json_has_what_scripts_look_for(tool: Tool) -> None:
    talk = Talk().open().say(True)
    talk.packets.append(talk.packets[-1])
    status, out, _ = tool.verify(talk.packets, '--json')
    assert status == 0
    found = json.loads(out)
    (connection,) = found.pop('connections')
    zeros = dict.fromkeys(('bad', 'unsigned', 'unverifiable', 'malformed'), 0)
    assert found == {'good': 5, 'cut_off': False} | zeros
    assert connection['client'] == '10.0.0.1:40001'
    assert connection['server'] == '10.0.0.2:179'
    assert connection['algorithm'] == 'hmac-sha-1-96'
    assert [connection[name] for name in ('good', 'bad', 'unsigned', 'unverifiable')] == [
        5,
        0,
        0,
        0,
    ]
    assert connection['retransmitted'] == 1
    (key,) = connection['keys']
    assert (key['send_id'], key['recv_id'], key['tcp_options']) == (1, 2, True)


def test_table_tells_what_would_have_been_good(tool: Tool) -> None:
    tool.give(KEY.known(tcp_options=False))
    out = tool.verify(Talk().open().packets)[1]
    assert out.count('would be good with TCP options included in the MAC') == 3


def test_table_tells_of_wraps_and_retransmissions(tool: Tool) -> None:
    talk = Talk(client_isn=(1 << 32) - 3).open().say(True, b'over the wrap')
    talk.packets.append(talk.packets[-1])
    head, row, *details = tool.verify(talk.packets)[1].splitlines()
    assert (head.split()[-1], row.split()[-1]) == ('retransmitted', '1')
    assert any('wrapped: 1 times client to server, 0 times server' in line for line in details)


def test_unanswered_syn_needs_no_isns(tool: Tool) -> None:
    tool.give(KEY.known() | {'send_id': 1, 'recv_id': 2})
    talk = Talk()
    talk.segment(True, Flag.SYN, key=Key(9, 9))
    status, out, _ = tool.verify(talk.packets)
    assert status == 1
    assert 'no key is given for KeyID 9' in out
    assert '--isn' not in out


def test_table_tells_that_the_master_key_differs_when_none_fits(tool: Tool) -> None:
    hint = 'the master key is another one'
    assert hint in tool.verify(Talk(key=Key(1, 2, b'guess')).open().packets)[1]
    assert hint not in tool.verify(bad().packets)[1]


def test_reader_that_closes_early_gets_no_traceback(tool: Tool) -> None:
    path = tool.folder / 'capture.pcap'
    write_pcap(path, Talk().open().packets)
    program = 'import sys; from gatekeeper.tools.cli import main; sys.exit(main())'
    command = [sys.executable, '-c', program, 'verify', str(path), '--keys', str(tool.keys)]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (2, b'')


def test_isns_can_be_given(tool: Tool) -> None:
    packets = Talk().open().say(True).packets[2:]
    status, out, _ = tool.verify(packets)
    assert status == 1
    assert 'give its ISNs with --isn' in out
    words = ('10.0.0.1:40001', '10.0.0.2:179', '1000', '0x7d0')
    status, out, _ = tool.verify(packets, '--isn', *words)
    assert status == 0
    assert '--isn' not in out


@pytest.mark.parametrize(
    'words',
    [
        ('10.0.0.1', '10.0.0.2:179', '1', '2'),
        ('10.0.0.1:1', '10.0.0.2:179', 'one', '2'),
        ('10.0.0.1:1', '10.0.0.2:179', '-1', '2'),
        ('10.0.0.1:1', '10.0.0.2:179', '4294967296', '2'),
        ('10.0.0.1:1', '10.0.0.2:179', '0x123456789', '2'),
        ('10.0.0.1:1', 'fd00::2:179', '1', '2'),
    ],
)
def test_words_are_refused_when_they_are_no_isns(tool: Tool, words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as exit_:
        tool.verify(Talk().open().packets, '--isn', *words)
    assert exit_.value.code == 2


def test_verdicts_are_not_kept(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A capture may be larger than the memory."""
    reports = []

    def kept(report: Any, **options: bool) -> bool:
        reports.append(report)
        return True

    monkeypatch.setattr('tcpao.verification.report.Report.passed', kept)
    tool.verify(Talk().open().packets)
    assert list(reports[0].verdicts()) == []
    assert reports[0].good == 3


# --- hostile captures -----------------------------------------------------------------------


def test_time_beyond_all_calendars_is_no_defect(tool: Tool) -> None:
    path = tool.folder / 'c.pcapng'
    options = b'\x0e\0\x08\0' + b'\xff' * 7 + b'\x7f' + b'\0\0\0\0'
    head = section() + interface(LinkType.RAW, options=options)
    path.write_bytes(head + b''.join(packet(octets) for octets in bad().packets))
    for option in ([], ['--json']):
        status, out, _ = tool.verify(path, *option)
        assert status == 1
        assert out


def captures() -> st.SearchStrategy[bytes]:
    """Damaged copies of files that are right."""
    talk = Talk().open().say(True).say(False)
    ng = section() + interface(LinkType.RAW) + b''.join(packet(p) for p in talk.packets)
    ng += block(5, bytes(16))
    places = st.tuples(st.integers(0, 4000), st.integers(0, 255))

    def damaged(changes: list[tuple[int, int]], cut: int, octets: bytes) -> bytes:
        damaged = bytearray(octets)
        for place, octet in changes:
            damaged[place % len(damaged)] = octet
        return bytes(damaged[: len(damaged) - cut])

    return st.builds(
        damaged,
        st.lists(places, max_size=8),
        st.sampled_from([0, 0, 0, 1, 7]),
        st.sampled_from([ng, _pcap(talk.packets)]),
    )


def _pcap(packets: list[bytes]) -> bytes:
    head = b'\xd4\xc3\xb2\xa1\x02\0\x04\0' + bytes(8) + b'\xff\xff\0\0\x65\0\0\0'
    sizes = (len(octets).to_bytes(4, 'little') for octets in packets)
    return head + b''.join(
        bytes(8) + size + size + octets for size, octets in zip(sizes, packets, strict=True)
    )


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=150,
)
@given(octets=captures(), as_json=st.booleans())
def test_any_capture_is_verified_or_refused(tool: Tool, octets: bytes, as_json: bool) -> None:
    path = tool.folder / 'hostile'
    path.write_bytes(octets)
    status, out, err = tool.verify(path, *(['--json'] if as_json else []))
    assert status in (0, 1, 2)
    assert bool(out) != bool(err)
    if as_json and out:
        json.loads(out)


def test_segment_never_verifies_when_a_bit_is_wrong(tool: Tool) -> None:
    noise = random.Random(1)
    talk = Talk().open()
    # The TCP checksum is the one thing that no MAC covers.
    covered = [n for n in range(20, len(talk.packets[2])) if n not in (20 + 16, 20 + 17)]
    for _ in range(200):
        octets = bytearray(talk.packets[2])
        octets[noise.choice(covered)] ^= 1 << noise.randrange(8)
        talk.packets.append(bytes(octets))
    status, out, _ = tool.verify(talk.packets, '--json')
    assert status == 1
    assert json.loads(out)['good'] == 3
