"""The benchmark of a start with many peers: it runs, and every peer gets its key."""

from __future__ import annotations

import pytest

from bench.start import LIMIT, Memory, Start, over_udp

PEERS = 20


@pytest.mark.parametrize('run', [Memory(PEERS).run, lambda: over_udp(PEERS)], ids=['memory', 'UDP'])
def test_every_peer_has_its_key_when_all_start_at_once(run: object) -> None:
    assert callable(run)
    start = run()
    assert isinstance(start, Start)
    assert start.peers == PEERS
    assert 0.0 < start.seconds < LIMIT


def test_peers_get_their_keys_when_the_buffer_is_too_small() -> None:
    start = Memory(PEERS, room=PEERS // 4).run()
    assert start.dropped > 0
    assert start.seconds < LIMIT
