"""Verification of captures: every segment judged, connections told apart, nothing passed over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import scapy.contrib.tcpao as oracle
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from tcpao.mkt import ALGORITHMS
from tcpao.verification.capture import Packet
from tcpao.verification.known_keys import parse_known_keys
from tcpao.verification.report import Report, verify_capture
from tcpao.verification.segment import Flag
from tcpao.verification.verify import Outcome, Verifier
from tests.tcpao.verification.test_vectors import DRAFT_ALGS, RFC_9235, SUITES, Vector, octets
from tests.tcpao.wire import SPACE, Key, Talk, write_pcap


def verified(tmp_path: Path, packets: list[bytes], *keys: dict[str, Any]) -> Report:
    known = parse_known_keys(json.dumps(keys).encode())
    return verify_capture(write_pcap(tmp_path / 'capture', packets), known)


def counts(report: Report) -> tuple[int, int, int, int]:
    return report.good, report.bad, report.unsigned, report.unverifiable


def problems(report: Report) -> list[str]:
    return [p['reason'] for c in report.to_json()['connections'] for p in c['problems']]


# --- good -----------------------------------------------------------------------------------


@pytest.mark.parametrize('algorithm', ALGORITHMS)
@pytest.mark.parametrize('tcp_options', [True, False])
@pytest.mark.parametrize('version', [4, 6])
def test_connection_verifies(
    tmp_path: Path, algorithm: str, tcp_options: bool, version: int
) -> None:
    key = Key(1, 17, b'k' * 32, algorithm, tcp_options)
    talk = Talk(version, key=key).open().say(True).say(False)
    talk.segment(True, Flag.RST | Flag.ACK)
    report = verified(tmp_path, talk.packets, key.known())
    assert counts(report) == (6, 0, 0, 0)
    assert report.passed(require_all=True)
    (connection,) = report.to_json()['connections']
    local, remote = (
        ('10.0.0.1:40001', '10.0.0.2:179') if version == 4 else ('[fd00::1]:40001', '[fd00::2]:179')
    )
    assert (connection['client'], connection['server']) == (local, remote)
    assert connection['algorithm'] == algorithm
    assert connection['keys'] == [
        {
            'algorithm': algorithm,
            'tcp_options': tcp_options,
            'send_id': 1,
            'recv_id': 17,
            'good': 6,
            'first': 1000.0,
            'last': 1005.0,
        }
    ]


@pytest.mark.parametrize('vectors', [RFC_9235, DRAFT_ALGS], ids=['rfc9235', 'draft07'])
def test_published_packets_verify_as_captures(tmp_path: Path, vectors: list[Vector]) -> None:
    """Each section's four packets are a connection: SYN, SYN-ACK, and one segment each way."""
    sections: dict[str, list[Vector]] = {}
    for vector in vectors:
        sections.setdefault(vector['section'].rpartition('.')[0], []).append(vector)
    assert len(sections) == 8
    for packets in sections.values():
        first = packets[0]
        report = verified(
            tmp_path,
            [octets(vector, 'packet_hex') for vector in packets],
            {
                'algorithm': SUITES[first['mac_algorithm'], first['kdf']],
                'master_key': first['master_key_hex'],
                'tcp_options': first['options_covered'],
                'send_id': 61,
                'recv_id': 84,
            },
        )
        assert counts(report) == (4, 0, 0, 0)


def test_fitting_key_is_found_among_many(tmp_path: Path) -> None:
    key = Key(1, 2, b'the one', 'aes-128-cmac-96', tcp_options=False)
    others = [Key(0, 0, bytes([n + 1]) * 16, name).known() for n, name in enumerate(ALGORITHMS)]
    report = verified(tmp_path, Talk(key=key).open().say(True).packets, *others, key.known())
    assert counts(report) == (4, 0, 0, 0)
    (use,) = report.to_json()['connections'][0]['keys']
    assert (use['algorithm'], use['tcp_options']) == ('aes-128-cmac-96', False)


def test_two_connections_verify_under_their_own_keys(tmp_path: Path) -> None:
    one, other = Key(1, 17, b'one'), Key(2, 18, b'other', 'aes-128-cmac-96')
    first = Talk(key=one).open().say(True)
    second = Talk(client_port=40002, client_isn=5, server_isn=6, key=other).open().say(False)
    interleaved = [p for pair in zip(first.packets, second.packets, strict=True) for p in pair]
    keys = [
        key.known(
            session=session,
            local=f'10.0.0.1:{port}',
            remote='10.0.0.2:179',
            send_id=key.send_id,
            recv_id=key.recv_id,
            tcp_options=True,
        )
        for key, session, port in ((one, 'ipv4 unicast', 40001), (other, 'ipv6 unicast', 40002))
    ]
    report = verified(tmp_path, interleaved, *keys)
    assert counts(report) == (8, 0, 0, 0)
    connections = report.to_json()['connections']
    assert [c['session'] for c in connections] == ['ipv4 unicast', 'ipv6 unicast']
    assert [c['algorithm'] for c in connections] == ['hmac-sha-1-96', 'aes-128-cmac-96']


def test_key_of_other_ends_is_not_used(tmp_path: Path) -> None:
    key = Key(1, 2)
    report = verified(
        tmp_path,
        Talk(key=key).open().packets,
        key.known(local='10.0.0.1:40002', remote='10.0.0.2:179'),
    )
    assert counts(report) == (0, 0, 0, 3)
    assert problems(report)[0] == 'no key is given for KeyID 1'


def test_key_changes_are_told_with_their_time(tmp_path: Path) -> None:
    old, new = Key(1, 17, b'old'), Key(2, 18, b'new')
    talk = Talk(key=old).open().say(True)
    talk.key = new
    talk.say(False).say(True)
    report = verified(tmp_path, talk.packets, old.known(), new.known())
    assert counts(report) == (6, 0, 0, 0)
    (connection,) = report.to_json()['connections']
    assert connection['key_changes'] == [
        {'time': 1004.0, 'direction': 'server to client', 'from': 17, 'to': 18},
        {'time': 1005.0, 'direction': 'client to server', 'from': 1, 'to': 2},
    ]
    assert [(k['send_id'], k['recv_id'], k['good']) for k in connection['keys']] == [
        (1, 17, 4),
        (2, 18, 2),
    ]
    assert '00:16:44.000 server to client: KeyID 17 to 18' in report.to_text()


def test_right_key_is_found_when_ids_are_used_again(tmp_path: Path) -> None:
    old, new = Key(1, 2, b'old'), Key(1, 2, b'new')
    talk = Talk(key=old).open().say(True)
    talk.key = new
    talk.say(True).say(False)
    listed = [key.known(send_id=1, recv_id=2) for key in (old, new)]
    assert counts(verified(tmp_path, talk.packets, *listed)) == (6, 0, 0, 0)


def test_retransmissions_are_counted(tmp_path: Path) -> None:
    talk = Talk()
    talk.segment(True, Flag.SYN)
    talk.packets *= 2
    talk.segment(False, Flag.SYN | Flag.ACK)
    talk.segment(True, Flag.ACK)
    talk.say(True)
    talk.packets.append(talk.packets[-1])
    # A keepalive probe: one before what is due, no data.
    talk.segment(True, Flag.ACK, sequence=talk.sent[True] - 1)
    report = verified(tmp_path, talk.packets, Key(1, 2).known())
    assert counts(report) == (7, 0, 0, 0)
    (connection,) = report.to_json()['connections']
    assert connection['retransmitted'] == 2


# --- the sequence space ---------------------------------------------------------------------


def test_segments_verify_when_the_sequence_wraps(tmp_path: Path) -> None:
    talk = Talk(client_isn=SPACE - 3).open().say(True, b'over the wrap')
    talk.say(True).say(False)
    report = verified(tmp_path, talk.packets, Key(1, 2).known())
    assert counts(report) == (6, 0, 0, 0)
    assert report.to_json()['connections'][0]['sne_wraps'] == {'client': 1, 'server': 0}


def test_segments_verify_when_reordered_at_the_wrap(tmp_path: Path) -> None:
    talk = Talk(server_isn=SPACE - 3).open().say(False, b'first').say(False, b'second')
    talk.packets[-2:] = talk.packets[:-3:-1]
    assert counts(verified(tmp_path, talk.packets, Key(1, 2).known())) == (5, 0, 0, 0)


def test_segments_verify_when_the_sequence_wraps_often(tmp_path: Path) -> None:
    talk = Talk().open()
    for gigabytes in range(1, 12):
        talk.segment(True, Flag.ACK, b'x', sequence=1001 + gigabytes * (1 << 30))
    report = verified(tmp_path, talk.packets, Key(1, 2).known())
    assert counts(report) == (14, 0, 0, 0)
    assert report.to_json()['connections'][0]['sne_wraps'] == {'client': 2, 'server': 0}


def test_segment_is_bad_when_its_sne_is_wrong(tmp_path: Path) -> None:
    talk = Talk().open()
    # The same 32 bits, signed with an SNE one too high.
    talk.segment(True, Flag.ACK, b'x', sequence=1001 + SPACE)
    assert counts(verified(tmp_path, talk.packets, Key(1, 2).known())) == (3, 1, 0, 0)


# --- bad, unsigned, unverifiable ------------------------------------------------------------


PAYLOAD, SEQUENCE, WINDOW, SOURCE_ADDRESS = -1, 20 + 7, 20 + 14, 12


@pytest.mark.parametrize('octet', [PAYLOAD, SEQUENCE, WINDOW])
def test_segment_is_bad_when_one_bit_is_wrong(tmp_path: Path, octet: int) -> None:
    talk = Talk().open().say(True)
    talk.packets[-1] = flipped(talk.packets[-1], octet)
    report = verified(tmp_path, talk.packets, Key(1, 2).known())
    assert counts(report) == (3, 1, 0, 0)
    assert problems(report) == ['the MAC fails under KeyID 1']
    assert not report.passed()


def test_wrong_address_is_another_connection(tmp_path: Path) -> None:
    talk = Talk().open().say(True)
    talk.packets[-1] = flipped(talk.packets[-1], SOURCE_ADDRESS)
    assert counts(verified(tmp_path, talk.packets, Key(1, 2).known())) == (3, 0, 0, 1)


def flipped(packet: bytes, octet: int) -> bytes:
    octets = bytearray(packet)
    octets[octet] ^= 1
    return bytes(octets)


def test_checksum_is_not_in_the_mac(tmp_path: Path) -> None:
    talk = Talk().open().say(True)
    talk.packets[-1] = flipped(talk.packets[-1], 20 + 16)
    assert counts(verified(tmp_path, talk.packets, Key(1, 2).known())) == (4, 0, 0, 0)


def test_mac_of_another_length_is_bad(tmp_path: Path) -> None:
    talk = Talk(key=Key(1, 2, algorithm='hmac-sha-256-96')).open()
    known = Key(1, 2, algorithm='hmac-sha-256-128').known()
    assert counts(verified(tmp_path, talk.packets, known)) == (0, 3, 0, 0)


@pytest.mark.parametrize('flags', [Flag.RST, Flag.ACK, Flag.FIN | Flag.ACK])
def test_unsigned_segment_in_a_signed_connection_is_bad(tmp_path: Path, flags: Flag) -> None:
    talk = Talk().open()
    talk.segment(False, flags, unsigned=True)
    report = verified(tmp_path, talk.packets, Key(1, 2).known())
    assert counts(report) == (3, 1, 0, 0)
    assert problems(report) == ['without TCP-AO']


def test_unsigned_segment_is_bad_before_the_first_signed_one(tmp_path: Path) -> None:
    talk = Talk()
    talk.segment(True, Flag.SYN, unsigned=True)
    talk.segment(False, Flag.SYN | Flag.ACK)
    assert counts(verified(tmp_path, talk.packets, Key(1, 2).known())) == (1, 1, 0, 0)


def test_connection_is_unsigned_when_it_has_no_tcp_ao(tmp_path: Path) -> None:
    signed, plain = Talk().open(), Talk(client_port=50000, key=None).open().say(True)
    report = verified(tmp_path, signed.packets + plain.packets, Key(1, 2).known())
    assert counts(report) == (3, 0, 4, 0)
    assert report.passed()
    assert not report.passed(require_all=True)


def test_capture_does_not_pass_when_nothing_verified(tmp_path: Path) -> None:
    assert not verified(tmp_path, [], Key(1, 2).known()).passed()
    assert not verified(tmp_path, Talk(key=None).open().packets, Key(1, 2).known()).passed()


def test_segment_is_unverifiable_when_its_key_is_missing(tmp_path: Path) -> None:
    talk = Talk().open()
    talk.segment(True, Flag.ACK, b'x', key=Key(9, 9))
    report = verified(tmp_path, talk.packets, Key(1, 2).known(send_id=1, recv_id=2))
    assert counts(report) == (3, 0, 0, 1)
    assert problems(report) == ['no key is given for KeyID 9']
    assert not report.passed()


def test_capture_from_mid_connection_is_unverifiable(tmp_path: Path) -> None:
    talk = Talk().open().say(True).say(False)
    report = verified(tmp_path, talk.packets[2:], Key(1, 2).known())
    assert counts(report) == (0, 0, 0, 3)
    assert problems(report)[0] == "the capture doesn't hold the SYN and SYN-ACK"


def test_segment_is_unverifiable_when_cut_short(tmp_path: Path) -> None:
    talk = Talk().open().say(True)
    talk.packets[-1] = talk.packets[-1][:-1]
    report = verified(tmp_path, talk.packets, Key(1, 2).known())
    assert counts(report) == (3, 0, 0, 1)
    assert 'packet 4: an IPv4 packet cut short' in report.to_text()


def test_segment_is_bad_when_its_options_break_off(tmp_path: Path) -> None:
    talk = Talk().open()
    talk.segment(True, Flag.ACK, options=b'\x1d\x03\x01\x00', unsigned=True)
    report = verified(tmp_path, talk.packets, Key(1, 2).known())
    assert counts(report) == (3, 1, 0, 0)
    assert problems(report) == ['TCP-AO of 3 octets']


# --- one socket pair, several connections ---------------------------------------------------


def test_connections_in_succession_on_one_pair_are_told_apart(tmp_path: Path) -> None:
    one, other = Key(1, 2, b'one'), Key(3, 4, b'other')
    first = Talk(key=one).open().say(True)
    first.segment(False, Flag.RST | Flag.ACK)
    second = Talk(key=other, client_isn=77, server_isn=88).open().say(False)
    report = verified(tmp_path, first.packets + second.packets, one.known(), other.known())
    assert counts(report) == (9, 0, 0, 0)
    assert [c['good'] for c in report.to_json()['connections']] == [5, 4]


def test_late_segment_belongs_to_the_connection_before(tmp_path: Path) -> None:
    first = Talk().open().say(True)
    second = Talk(client_isn=77, server_isn=88).open()
    packets = first.packets[:-1] + second.packets + first.packets[-1:]
    report = verified(tmp_path, packets, Key(1, 2).known())
    assert counts(report) == (7, 0, 0, 0)
    assert [c['good'] for c in report.to_json()['connections']] == [4, 3]


def test_syn_verifies_when_tried_again_with_another_isn(tmp_path: Path) -> None:
    first = Talk(client_isn=5)
    first.segment(True, Flag.SYN)
    second = Talk(client_isn=6).open()
    report = verified(tmp_path, first.packets + second.packets, Key(1, 2).known())
    assert counts(report) == (4, 0, 0, 0)


def test_forged_syn_ack_does_not_spoil_the_isn(tmp_path: Path) -> None:
    talk = Talk()
    talk.segment(True, Flag.SYN)
    forger = Talk(server_isn=666, key=Key(1, 2, b'guess'))
    forger.sent[True] += 1
    forger.segment(False, Flag.SYN | Flag.ACK)
    talk.packets += forger.packets
    talk.segment(False, Flag.SYN | Flag.ACK)
    talk.segment(True, Flag.ACK)
    talk.say(False)
    assert counts(verified(tmp_path, talk.packets, Key(1, 2).known())) == (4, 1, 0, 0)


# --- the oracle, and the words --------------------------------------------------------------


@pytest.mark.parametrize('version', [4, 6])
@pytest.mark.parametrize(
    ('name', 'algorithm'),
    [('HMAC-SHA-1-96', 'hmac-sha-1-96'), ('AES-128-CMAC-96', 'aes-128-cmac-96')],
)
def test_scapy_agrees_on_every_segment(
    tmp_path: Path, name: str, algorithm: str, version: int
) -> None:
    key = Key(1, 2, b'some master key', algorithm)
    talk = Talk(version, client_isn=SPACE - 4, key=key)
    talk.open().say(True, b'over the wrap').say(True).say(False)
    report = verified(tmp_path, talk.packets, key.known())
    assert counts(report) == (6, 0, 0, 0)
    suite = oracle.get_alg(name)
    for verdict in report.verdicts():
        assert verdict.outcome is Outcome.GOOD
        assert verdict.option is not None
        packet = IP(verdict.octets) if version == 4 else IPv6(verdict.octets)
        traffic_key = oracle.calc_tcpao_traffic_key(
            packet, suite, key.secret, verdict.source_isn, verdict.destination_isn
        )
        mac = oracle.calc_tcpao_mac(
            packet, suite, traffic_key, include_options=verdict.tcp_options, sne=verdict.sne
        )
        assert mac == verdict.option.mac


def test_table_and_json_hold_no_secret(tmp_path: Path) -> None:
    talk = Talk().open()
    talk.segment(True, Flag.ACK, b'x', key=Key(1, 2, b'wrong'))
    report = verified(tmp_path, talk.packets, Key(1, 2).known(session='ipv4 unicast'))
    text = report.to_text()
    whole = text + json.dumps(report.to_json())
    assert b'master key'.hex() not in whole
    assert 'master key' not in whole
    assert text.splitlines()[0].split() == [
        'client',
        'server',
        'algorithm',
        'good',
        'bad',
        'unsigned',
        'unverifiable',
        'retransmitted',
    ]
    assert text.splitlines()[1].split() == [
        '10.0.0.1:40001',
        '10.0.0.2:179',
        'hmac-sha-1-96',
        '3',
        '1',
        '0',
        '0',
        '0',
    ]
    assert 'packet 4 1970-01-01 00:16:43.000 client to server ACK: bad: the MAC fails' in text
    assert text.splitlines()[-1] == '3 good, 1 bad, 0 unsigned, 0 unverifiable'


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 70), st.integers(0, 255), st.integers(0, 90)),
        max_size=12,
    )
)
def test_any_packets_are_judged(changes: list[tuple[int, int, int, int]]) -> None:
    """Packets of a real connection, in any order, with octets changed and ends cut off."""
    talk = Talk().open().say(True).say(False)
    talk.segment(True, Flag.RST)
    verifier = Verifier(parse_known_keys(json.dumps([Key(1, 2).known()]).encode()))
    for number, (which, offset, octet, length) in enumerate(changes):
        packet = bytearray(talk.packets[which])
        packet[offset % len(packet)] = octet
        verifier.feed(
            Packet(number, float(number), bytes(packet[:length] if octet % 2 else packet))
        )
    report = Report(verifier)
    report.to_text()
    json.dumps(report.to_json())
    judged = sum(len(connection.verdicts) for connection in report.connections)
    assert sum(counts(report)) == judged + report.malformed
