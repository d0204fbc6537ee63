"""The handshake benchmark: it runs, and its floor is what a handshake really computes."""

from __future__ import annotations

import argparse
import gc
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench import handshake
from bench.handshake import KINDS, Kind

# What costs: a handshake may not ask for one of these oftener than its floor has it.
COSTLY = frozenset(
    (
        *('generate_key', 'generate_private_key', 'exchange', 'sign', 'verify'),
        *('encrypt', 'decrypt', 'finalize'),
        *('load_der_public_key', 'load_der_x509_certificate', 'load_pem_private_key'),
    )
)


def _library_calls(work: Callable[[], object]) -> Counter[str]:
    """Which costly functions of the cryptographic library `work` calls."""
    found: Counter[str] = Counter()

    def note(frame: object, event: str, called: Any) -> None:
        if event == 'c_call' and called.__name__ in COSTLY:
            found[called.__name__] += 1

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return found


@pytest.mark.parametrize('kind', KINDS, ids=lambda kind: kind.name)
def test_floor_is_all_that_a_handshake_asks_the_library_for(kind: Kind) -> None:
    population = kind.population()
    for spoke in (0, 1):
        population.add(spoke)
    population.handshake(0)  # reads the operators' keys
    with patch('ikev2.crypto.cipher.AESGCM', wraps=AESGCM) as key:
        calls = _library_calls(lambda: population.handshake(1))
    floor = kind.primitives()
    listed: Counter[str] = Counter()
    for primitive in floor:
        for call, times in primitive.library.items():
            listed[call] += primitive.count * times
    assert calls == listed
    assert key.call_count == next(p.count for p in floor if p.name == 'AES-256-GCM key')


@pytest.mark.parametrize('kind', KINDS, ids=lambda kind: kind.name)
def test_primitive_calls_what_it_says(kind: Kind) -> None:
    for primitive in kind.primitives():
        assert _library_calls(primitive.work) == primitive.library


def _lines_of_a_handshake(idle: int) -> int:
    """Return how many lines of Python a handshake takes beside so many idle IKE SAs."""
    population = KINDS[0].population()
    for spoke in range(idle):
        population.add(spoke)
        population.handshake(spoke)
    lines = 0

    def count(frame: object, event: str, argument: object) -> Any:
        nonlocal lines
        lines += event == 'line'
        return count

    population.add(idle)
    before = sys.gettrace()
    # A collection runs all callbacks and finalizers that there are, and they would count.
    gc.collect()
    gc.disable()
    sys.settrace(count)
    try:
        population.handshake(idle)
    finally:
        sys.settrace(before)
        gc.enable()
    return lines


def test_handshake_walks_through_no_list_of_ike_sas() -> None:
    assert _lines_of_a_handshake(200) == _lines_of_a_handshake(1)


def test_benchmark_of_handshakes_runs(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    handshake.options(parser)
    found = handshake.run(parser.parse_args(['--idle', '2', '--rounds', '1', '--calls', '1']))
    assert [one['kind'] for one in found['handshakes']] == [kind.name for kind in KINDS]
    # Of a single round and call: not a measurement.
    assert all(one['ratio'] > 0 for one in found['handshakes'])
    assert found['memory'][0]['up'] > found['memory'][0]['configured'] > 0
    assert 'ECDSA P-256 signature' in capsys.readouterr().out
