"""Every published TCP-AO vector, octet by octet.

RFC 9235 sections 4 to 7 (32 packets; its IPv4 packets carry wrong TCP checksums, which the MAC
doesn't cover: errata) and draft-ietf-tcpm-tcp-ao-algs-07 appendix A (32 packets).
"""

from __future__ import annotations

import json
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import scapy.contrib.tcpao as oracle
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from keymaterial import Secret
from tcpao.kdf import context, derive_traffic_key
from tcpao.mkt import ALGORITHMS, Algorithm
from tcpao.verification.mac import compute_mac, is_good, mac_input
from tcpao.verification.segment import AoOption, Segment, parse_ip

Vector = dict[str, Any]

SUITES = {
    ('HMAC-SHA-1-96', 'KDF_HMAC_SHA1'): 'hmac-sha-1-96',
    ('AES-128-CMAC-96', 'KDF_AES_128_CMAC'): 'aes-128-cmac-96',
    ('HMAC-SHA256-128', 'HKDF-SHA256'): 'hmac-sha256-128-hkdf',
    ('KMAC256-128', 'KMAC256-KDF (SP 800-56Cr2 one-step)'): 'kmac256-128',
}


@cache
def load(name: str) -> list[Vector]:
    file = Path(__file__).with_name('vectors') / name
    vectors = json.loads(file.read_text())['vectors']
    assert isinstance(vectors, list)
    return vectors


RFC_9235 = load('rfc9235.json')
DRAFT_ALGS = load('tcp-ao-algs-draft07.json')
ALL = [pytest.param(v, id=f'rfc9235-{v["section"]}') for v in RFC_9235] + [
    pytest.param(v, id=f'draft07-{v["section"]}') for v in DRAFT_ALGS
]


def suite(vector: Vector) -> Algorithm:
    return ALGORITHMS[SUITES[vector['mac_algorithm'], vector['kdf']]]


def octets(vector: Vector, field: str) -> bytes:
    return bytes.fromhex(vector[field])


def taken_apart(vector: Vector) -> tuple[Segment, AoOption]:
    segment = parse_ip(octets(vector, 'packet_hex'))
    assert segment is not None
    option = segment.ao_option()
    assert option is not None
    return segment, option


def test_no_vector_is_missing() -> None:
    assert len(RFC_9235) == 32
    assert len(DRAFT_ALGS) == 32


@pytest.mark.parametrize('vector', ALL)
def test_traffic_key_is_that_of_the_vector(vector: Vector) -> None:
    key = derive_traffic_key(
        suite(vector), Secret(octets(vector, 'master_key_hex')), octets(vector, 'kdf_context_hex')
    )
    assert key.reveal() == octets(vector, 'traffic_key_hex')


@pytest.mark.parametrize('vector', ALL)
def test_mac_input_is_that_of_the_vector(vector: Vector) -> None:
    segment, option = taken_apart(vector)
    message = mac_input(segment, option, 0, tcp_options=vector['options_covered'])
    assert message == octets(vector, 'mac_message_hex')


@pytest.mark.parametrize('vector', ALL)
def test_mac_is_that_of_the_vector(vector: Vector) -> None:
    traffic_key = Secret(octets(vector, 'traffic_key_hex'))
    mac = compute_mac(suite(vector), traffic_key, octets(vector, 'mac_message_hex'))
    assert mac == octets(vector, 'mac_hex')
    assert len(mac) == vector['mac_len']


@pytest.mark.parametrize('vector', ALL)
def test_packet_verifies_only_as_it_was_signed(vector: Vector) -> None:
    segment, option = taken_apart(vector)
    covered = vector['options_covered']
    key = Secret(octets(vector, 'traffic_key_hex'))
    assert option.mac == octets(vector, 'mac_hex')
    assert is_good(segment, option, suite(vector), key, 0, tcp_options=covered)
    assert not is_good(segment, option, suite(vector), key, 0, tcp_options=not covered)
    assert not is_good(segment, option, suite(vector), key, 1, tcp_options=covered)
    other_key = Secret(bytes(len(key)))
    assert not is_good(segment, option, suite(vector), other_key, 0, tcp_options=covered)


@pytest.mark.parametrize('vector', [pytest.param(v, id=v['section']) for v in RFC_9235])
def test_context_and_ids_are_those_of_the_vector(vector: Vector) -> None:
    segment, option = taken_apart(vector)
    assert option.key_id == vector['key_id']
    assert option.rnext_key_id == vector['rnext_key_id']
    assert octets(vector, 'kdf_context_hex') == context(
        ip_address(octets(vector, 'src_addr')),
        ip_address(octets(vector, 'dst_addr')),
        segment.source_port,
        segment.destination_port,
        vector['kdf_src_isn'],
        vector['kdf_dst_isn'],
    )


@pytest.mark.parametrize('vector', [pytest.param(v, id=v['section']) for v in RFC_9235])
def test_scapy_agrees_with_the_vectors(vector: Vector) -> None:
    packet = octets(vector, 'packet_hex')
    parsed = IP(packet) if vector['ip_version'] == 4 else IPv6(packet)
    algorithm = oracle.get_alg(vector['mac_algorithm'])
    key = oracle.calc_tcpao_traffic_key(
        parsed,
        algorithm,
        octets(vector, 'master_key_hex'),
        vector['kdf_src_isn'],
        vector['kdf_dst_isn'],
    )
    mac = oracle.calc_tcpao_mac(
        parsed, algorithm, key, include_options=vector['options_covered'], sne=0
    )
    segment, option = taken_apart(vector)
    ours = derive_traffic_key(
        suite(vector), Secret(octets(vector, 'master_key_hex')), octets(vector, 'kdf_context_hex')
    )
    assert ours.reveal() == key
    message = mac_input(segment, option, 0, tcp_options=vector['options_covered'])
    assert compute_mac(suite(vector), ours, message) == mac
