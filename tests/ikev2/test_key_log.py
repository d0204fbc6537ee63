"""The key log is one that Wireshark takes: tshark decrypts what the endpoints said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ikev2.constants import ExchangeType, PayloadType
from ikev2.crypto.cipher import CHACHA20_POLY1305, ENCRYPTIONS, Encryption
from ikev2.endpoint import Endpoint
from ikev2.limits import Limits
from ikev2.proposals.ike import IkePolicy
from ikev2.proposals.policies import POLICIES
from tests.ikev2.bench import Bench, peer_a, peer_b, sas_of
from tests.ikev2.wireshark import Seen, read_capture, write_capture

DECRYPTABLE = [e for e in ENCRYPTIONS.values() if e is not CHACHA20_POLY1305]
NAMES = {'a.example', 'b.example'}


class Logged:
    """Two endpoints that log their keys."""

    def __init__(self, policy: IkePolicy, limits: Limits | None = None) -> None:
        self.logs: dict[str, list[str]] = {'a': [], 'b': []}
        self.bench = Bench(
            b=replace(peer_b(), policy=policy),
            a=replace(peer_a(), policy=policy),
            limits=limits,
            key_logs=self.logs,
        )
        self.bench.connect()

    def seen(self, folder: Path, *, logged: bool = True) -> list[Seen]:
        """Return tshark's reading of all messages."""
        table, capture = folder / 'table', folder / 'ike.pcap'
        table.write_text(''.join(f'{line}\n' for line in self.logs['a']))
        write_capture(capture, self.bench.wire)
        return read_capture(capture, table if logged else None, folder / 'home')


def only(encryption: Encryption) -> IkePolicy:
    return IkePolicy(encryptions=(encryption,))


def named(seen: list[Seen]) -> set[str]:
    """Return the names that tshark saw in IKE_AUTH."""
    found = [one for one in seen if one.exchange == ExchangeType.IKE_AUTH]
    return {name for one in found for name in one.names if PayloadType.AUTH in one.payloads}


@pytest.mark.parametrize('encryption', DECRYPTABLE, ids=lambda one: one.name)
def test_wireshark_decrypts_ike_auth(encryption: Encryption, tmp_path: Path) -> None:
    logged = Logged(only(encryption))
    assert named(logged.seen(tmp_path)) == NAMES


def test_wireshark_decrypts_nothing_without_log(tmp_path: Path) -> None:
    assert named(Logged(IkePolicy()).seen(tmp_path, logged=False)) == set()


def test_both_ends_log_the_same_keys() -> None:
    logs = Logged(IkePolicy()).logs
    assert logs['a'] == logs['b']
    assert len(logs['a']) == 1


def test_key_log_writes_comment_when_wireshark_lacks_cipher(
    tmp_path: Path,
) -> None:
    lacking = Logged(only(CHACHA20_POLY1305))
    (comment,) = lacking.logs['a']
    (sa,) = sas_of(lacking.bench.a)
    spis = f'{sa.origin.spi_i.hex()},{sa.origin.spi_r.hex()}'
    assert comment == f'# {spis}: chacha20-poly1305, which Wireshark cannot decrypt'
    other = Logged(IkePolicy())
    other.logs['a'].insert(0, comment)
    assert named(other.seen(tmp_path)) == NAMES


def test_wireshark_decrypts_rekeyed_ike_sas(tmp_path: Path) -> None:
    logged = Logged(IkePolicy())
    for by, peer in (('a', 'b'), ('b', 'a')):
        logged.bench.nodes[by].endpoint.rekey_ike_sa(peer, logged.bench.now)
        logged.bench.settle()
    logged.bench.a.endpoint.remove_peer('b', logged.bench.now)
    logged.bench.settle()
    assert len(logged.logs['a']) == 3
    seen = logged.seen(tmp_path)
    assert named(seen) == NAMES
    deletes = [one for one in seen if PayloadType.DELETE in one.payloads]
    assert len(deletes) == 3  # of each IKE SA, under its own keys
    assert all(one.exchange == ExchangeType.INFORMATIONAL for one in deletes)


def test_wireshark_decrypts_fragments(tmp_path: Path) -> None:
    logged = Logged(IkePolicy(), Limits(fragment_ipv4=130))
    found = logged.seen(tmp_path)
    assert any(PayloadType.SKF in one.payloads for one in found)
    assert {name for one in found for name in one.names} >= NAMES


def test_key_log_has_last_keys_after_additional_exchange(tmp_path: Path) -> None:
    logged = Logged(POLICIES['hybrid'])
    assert len(logged.logs['a']) == 2  # for IKE_INTERMEDIATE, and for all that comes after it
    assert named(logged.seen(tmp_path)) == NAMES


def test_key_log_writes_nothing_unless_requested() -> None:
    bench = Bench()
    assert bench.a.endpoint._context.key_log is None
    assert Endpoint(random=bytes, has_mkts=bool)._context.key_log is None
