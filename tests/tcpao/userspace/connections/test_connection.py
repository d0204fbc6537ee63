"""A connection under TCP-AO from its SYN to its end, between two cores in memory."""

from __future__ import annotations

import random

import pytest

from tcpao.installer import Cause
from tcpao.key_socket import InstallError, SocketState
from tcpao.mkt import ALGORITHMS
from tcpao.userspace.wire.options import LARGEST_MSS, mss_of
from tests.tcpao.userspace.packets import (
    ACK,
    DATA_OPTIONS,
    FIN,
    PSH,
    RST,
    SPACE,
    SYN,
    SYN_OPTIONS,
    TIMESTAMPS,
    TRUSTING,
    End,
    connected,
    connection_name,
    ends,
    has_good_checksums,
    packet,
    segment_of,
    stored,
    talk,
)

VERSIONS = pytest.mark.parametrize('version', [4, 6])


def state(end: End, cookie: int) -> SocketState:
    seen = end.core.read(connection_name(end.pair, cookie))
    assert seen is not None
    return seen


def good(end: End, cookie: int, recv_id: int) -> int:
    (count,) = [key.good for key in state(end, cookie).keys if key.recv_id == recv_id]
    return count


def add(end: End, cookie: int, ids: tuple[int, int], secret: bytes = b'successor') -> None:
    key = stored(end.pair, ids, secret=secret)
    end.core.add(connection_name(end.pair, cookie), key, select=False, fresh=False)


# --- the handshake and after ----------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize('algorithm', sorted(ALGORITHMS))
@pytest.mark.parametrize('tcp_options', [True, False], ids=['covered', 'not covered'])
def test_conversation_passes_both_ways(version: int, algorithm: str, tcp_options: bool) -> None:
    client, server = connected(version, algorithm=algorithm, tcp_options=tcp_options)
    talk(client, server)
    talk(server, client, b'x' * 1300)
    talk(client, server, b'')
    assert state(client, 1).current == state(server, 3).rnext == 1
    assert good(client, 1, 2) == 4
    assert good(server, 3, 1) == 3, 'what ended the handshake counts for the listener'


@VERSIONS
def test_every_packet_on_the_wire_is_signed_and_whole(version: int) -> None:
    client, server = connected(version)
    for end in (client, server):
        sent = end.make(PSH | ACK, payload=b'some octets')
        assert sent is not None
        assert has_good_checksums(sent)
        option = segment_of(sent).ao_option()
        assert option is not None
        assert (option.key_id, option.rnext_key_id) == ((1, 2) if end is client else (2, 1))


@VERSIONS
def test_tcp_never_sees_the_option(version: int) -> None:
    client, server = connected(version)
    talk(client, server)
    talk(server, client)
    for end in (client, server):
        assert end.seen
        assert all(segment.ao_option() is None for segment in end.seen)


@VERSIONS
def test_both_ends_see_a_lower_mss(version: int) -> None:
    client, server = connected(version)
    for end in (client, server):
        assert mss_of(end.seen[0].header[20:]) == min(1460, LARGEST_MSS[version]) - 20


def test_mss_is_no_more_than_our_own_syn_said() -> None:
    client, server = ends()
    narrow = b'\x02\x04\x04\xd8' + SYN_OPTIONS[4:]
    assert server.take(client.make(SYN, narrow))
    assert client.take(server.make(SYN | ACK, SYN_OPTIONS))
    assert mss_of(client.seen[0].header[20:]) == 0x04D8 - 20


def test_retransmitted_syn_is_the_same_connection() -> None:
    client, server = ends()
    first = client.make(SYN, SYN_OPTIONS)
    client.sent = 0
    again = client.make(SYN, SYN_OPTIONS)
    assert first == again
    assert server.take(first)
    assert server.take(again)
    assert client.take(server.make(SYN | ACK, SYN_OPTIONS))
    assert server.take(client.make(ACK))


def test_syn_is_not_signed_when_its_isn_is_another() -> None:
    """A socket connects once. Another ISN is another socket's."""
    client, _ = ends()
    assert client.make(SYN, SYN_OPTIONS)
    client.isn, client.sent = 77777, 0
    assert client.make(SYN, SYN_OPTIONS) is None


def test_connection_comes_up_when_both_ends_open_at_once() -> None:
    one, other = ends()
    key = stored(other.pair, (2, 1), secret=b'k' * 32)
    other.core = type(other.core)(lambda local, remote: None, TRUSTING)
    other.core.add(connection_name(other.pair, 3), key, select=True, fresh=True)
    syns = one.make(SYN, SYN_OPTIONS), other.make(SYN, SYN_OPTIONS)
    assert other.take(syns[0])
    assert one.take(syns[1])
    one.sent = other.sent = 0
    answers = one.make(SYN | ACK, SYN_OPTIONS), other.make(SYN | ACK, SYN_OPTIONS)
    assert other.take(answers[0])
    assert one.take(answers[1])
    talk(one, other)
    talk(other, one)


def test_syn_ack_is_refused_when_it_answers_another_syn() -> None:
    client, server = ends()
    assert server.take(client.make(SYN, SYN_OPTIONS))
    late = server.make(SYN | ACK, SYN_OPTIONS)
    again, _ = ends(isns=(77777, 5000))
    assert again.make(SYN, SYN_OPTIONS)
    assert again.take(late) is None


def test_retransmissions_carry_the_same_octets() -> None:
    client, server = connected()
    first = client.make(PSH | ACK, payload=b'route')
    client.sent -= 5
    assert client.make(PSH | ACK, payload=b'route') == first
    assert server.take(first)
    assert server.take(first), 'and are verified again'


def test_retransmission_has_the_new_key_when_current_changed() -> None:
    client, server = connected()
    add(client, 1, (5, 6))
    add(server, 3, (6, 5))
    lost = client.make(PSH | ACK, payload=b'route')
    assert lost is not None
    server.core.set_rnext(connection_name(server.pair, 3), 5)
    assert client.take(server.make(ACK))
    again = client.make(PSH | ACK, payload=b'route', back=5)
    assert again is not None
    option = segment_of(again).ao_option()
    assert option is not None
    assert option.key_id == 5
    assert server.take(again)


# --- what is refused ------------------------------------------------------------------------


def unsigned_from(end: End, flags: int = ACK, payload: bytes = b'') -> bytes:
    """A segment in its name that is not signed."""
    return packet(
        end.pair, end.isn + end.sent, (end.peer_isn or 0) + end.got, flags, DATA_OPTIONS, payload
    )


@VERSIONS
@pytest.mark.parametrize('flags', [ACK, PSH | ACK, RST, RST | ACK, FIN | ACK, SYN])
def test_unsigned_segment_is_dropped_and_counted(version: int, flags: int) -> None:
    client, server = connected(version)
    assert server.core.incoming(unsigned_from(client, flags)) is None
    assert state(server, 3).unsigned == 1
    assert server.core.tally.unsigned == 1
    talk(client, server)


@VERSIONS
def test_unknown_key_id_is_dropped_and_counted(version: int) -> None:
    client, server = connected(version)
    add(client, 1, (5, 6))
    name = connection_name(client.pair, 1)
    client.core.delete(name, stored(client.pair).peer, 1, 2, switch_to=(5, 6))
    assert server.take(client.make(PSH | ACK, payload=b'lost')) is None
    assert state(server, 3).not_found == 1


@VERSIONS
def test_wrong_mac_is_dropped_and_counted_under_its_key(version: int) -> None:
    client, server = connected(version)
    sent = client.make(PSH | ACK, payload=b'route')
    assert sent is not None
    assert server.core.incoming(sent[:-1] + b'?') is None
    assert [(key.good, key.bad) for key in state(server, 3).keys] == [(0, 1)]


def test_truncated_mac_is_dropped() -> None:
    client, server = connected()
    sent = client.make(PSH | ACK)
    assert sent is not None
    shorter = bytearray(sent)
    at = sent.index(bytes((29, 16, 1, 2)))
    # The last four octets of the MAC become padding.
    shorter[at + 1] = 12
    shorter[at + 12 : at + 16] = b'\x01' * 4
    assert server.core.incoming(bytes(shorter)) is None


def test_our_own_packet_is_refused_when_it_is_reflected() -> None:
    client, _ = connected()
    sent = client.make(PSH | ACK, payload=b'route')
    assert sent is not None
    start = 20
    reflected = bytearray(sent)
    reflected[12:16], reflected[16:20] = sent[16:20], sent[12:16]
    reflected[start : start + 2], reflected[start + 2 : start + 4] = sent[22:24], sent[20:22]
    assert client.core.incoming(bytes(reflected)) is None


def test_broken_option_is_refused() -> None:
    client, server = connected()
    broken = packet(client.pair, 1, 2, ACK, bytes((29, 3, 1, 1)))
    assert server.core.incoming(broken) is None
    assert server.core.tally.malformed == 1


def test_only_the_handshake_passes_before_it_has_ended() -> None:
    client, server = ends()
    client.make(SYN, SYN_OPTIONS)
    assert client.make(PSH | ACK, payload=b'too early') is None
    assert client.make(RST) is None, "RFC 5925 7.7: without the peer's ISN nothing can be signed"
    assert server.make(PSH | ACK, payload=b'too early') is None


def test_nothing_leaves_when_there_is_no_key() -> None:
    client, _ = connected()
    connection = next(client.core.connections())
    connection.keyring.current = None
    assert client.make(ACK) is None
    assert client.core.tally.unsendable == 1


# --- SNE ------------------------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize('ahead', [1, 2, 1000, 5000])
def test_connection_stays_when_the_sequence_wraps_both_ways(version: int, ahead: int) -> None:
    client, server = connected(version, isns=(SPACE - ahead, SPACE - ahead - 1))
    for _ in range(8):
        talk(client, server, b'c' * 900)
        talk(server, client, b's' * 900)


def test_connection_stays_when_the_sequence_wraps_twice() -> None:
    client, server = connected()
    step = (1 << 31) - 20_000
    for _ in range(7):
        talk(client, server)
        talk(server, client)
        # As if so many octets had gone over in between, segment by segment.
        for end, other in ((client, server), (server, client)):
            for _ in range(2):
                end.sent += step // 2
                other.got += step // 2
                talk(end, other)
    assert (client.isn + client.sent) // SPACE >= 3


def test_segment_of_before_the_last_wrap_is_refused() -> None:
    client, server = connected()
    recorded = client.make(PSH | ACK, payload=b'route')
    assert server.take(recorded)
    for _ in range(4):
        client.sent += 1 << 30
        server.got += 1 << 30
        assert server.take(client.make(PSH | ACK, payload=b'x'))
    client.sent -= 4
    assert server.core.incoming(recorded or b'') is None


@pytest.mark.parametrize('seed', range(5))
def test_segments_pass_when_reordered_at_the_wrap(seed: int) -> None:
    shuffle = random.Random(seed)
    client, server = connected(isns=(SPACE - 6000, SPACE - 300))
    sent = [client.make(PSH | ACK, payload=bytes(500)) for _ in range(24)]
    for at in range(0, 24, 6):
        window = sent[at : at + 6]
        shuffle.shuffle(window)
        for each in window:
            assert server.take(each)
            if shuffle.random() < 0.3:
                assert server.take(each), 'a duplicate'
    assert good(server, 3, 1) >= 24


def test_old_segment_is_signed_when_sent_again_after_the_wrap() -> None:
    client, server = connected(isns=(SPACE - 1000, 5000))
    early = client.make(PSH | ACK, payload=bytes(600))
    client.make(PSH | ACK, payload=bytes(600))
    assert server.take(client.make(PSH | ACK, payload=bytes(600)))
    again = client.make(PSH | ACK, payload=bytes(600), back=1800)
    assert again == early
    assert server.take(again)


def test_keepalive_probe_passes_before_the_wrap() -> None:
    # One octet back: the last one of the old space.
    client, server = connected(isns=(SPACE - 1, 5000))
    assert client.isn + client.sent == SPACE
    assert server.take(client.make(ACK, back=1))


def test_forged_segment_far_ahead_moves_nothing() -> None:
    client, server = connected()
    far = packet(client.pair, client.isn + (1 << 31) - 5, 1, ACK, bytes((29, 16, 1, 2)) + bytes(12))
    for _ in range(3):
        assert server.core.incoming(far) is None
    talk(client, server)


# --- Current and RNext (RFC 5925 7.5) ---------------------------------------------------------


def test_current_follows_the_peers_rnext() -> None:
    client, server = connected()
    add(client, 1, (5, 6))
    add(server, 3, (6, 5))
    assert state(client, 1).current == 1, 'a new key alone moves nothing'
    client.core.set_rnext(connection_name(client.pair, 1), 6)
    talk(client, server)
    assert state(server, 3).current == 6
    assert state(client, 1).current == 1
    server.core.set_rnext(connection_name(server.pair, 3), 5)
    talk(client, server)
    assert state(client, 1).current == 5
    talk(client, server)
    for end, cookie, peer in ((client, 1, 6), (server, 3, 5)):
        assert good(end, cookie, peer) > 0
        name = connection_name(end.pair, cookie)
        old = (1, 2) if end is client else (2, 1)
        end.core.delete(name, stored(end.pair).peer, *old, None)
    talk(client, server)
    talk(server, client)


def test_unknown_rnext_moves_nothing() -> None:
    client, server = connected()
    add(client, 1, (5, 6))
    client.core.set_rnext(connection_name(client.pair, 1), 6)
    talk(client, server)
    assert state(server, 3).current == 2


def test_forged_rnext_moves_nothing() -> None:
    client, server = connected()
    add(server, 3, (6, 5))
    sent = client.make(ACK)
    assert sent is not None
    forged = bytearray(sent)
    forged[sent.index(bytes((29, 16, 1, 2))) + 3] = 6
    assert server.core.incoming(bytes(forged)) is None
    assert state(server, 3).current == 2


def test_successor_may_have_a_longer_mac_and_another_flag() -> None:
    client, server = connected()
    for end, cookie, ids in ((client, 1, (5, 6)), (server, 3, (6, 5))):
        name = connection_name(end.pair, cookie)
        key = stored(end.pair, ids, algorithm='hmac-sha-256-128', tcp_options=False)
        end.core.add(name, key, select=False, fresh=False)
        end.core.set_rnext(name, ids[1])
    for _ in range(3):
        talk(client, server, b'x' * 1440)
    assert (state(client, 1).current, state(server, 3).current) == (5, 6)


def test_delete_answers_busy_when_a_key_is_in_use() -> None:
    client, _ = connected()
    name = connection_name(client.pair, 1)
    with pytest.raises(InstallError) as caught:
        client.core.delete(name, stored(client.pair).peer, 1, 2, None)
    assert caught.value.cause is Cause.BUSY


# --- ends -----------------------------------------------------------------------------------


def test_rst_is_signed_and_ends_the_connection() -> None:
    client, server = connected()
    assert server.take(client.make(RST | ACK))
    assert next(server.core.connections()).is_over
    assert next(client.core.connections()).is_over


def test_fins_are_signed_and_so_is_what_follows_them() -> None:
    client, server = connected()
    assert server.take(client.make(FIN | ACK))
    assert client.take(server.make(FIN | ACK))
    assert server.take(client.make(ACK))
    # TIME-WAIT: the last ACK was lost, the FIN comes again. Linux itself leaves this unprotected.
    assert client.take(server.make(FIN | ACK, back=1))
    assert server.take(client.make(ACK))
    assert client.core.incoming(unsigned_from(server, FIN | ACK)) is None


# --- option space ---------------------------------------------------------------------------


@pytest.mark.parametrize('algorithm', ['hmac-sha-1-96', 'hmac-sha-256-128'])
@pytest.mark.parametrize('tcp_options', [True, False])
def test_full_header_of_sack_blocks_is_trimmed_and_verifies(
    algorithm: str, tcp_options: bool
) -> None:
    client, server = connected(algorithm=algorithm, tcp_options=tcp_options)
    blocks = bytes((5, 26)) + bytes(range(24))
    sent = client.make(ACK, b'\x01\x01' + TIMESTAMPS + b'\x01\x01' + blocks)
    assert sent is not None
    assert has_good_checksums(sent)
    seen = server.take(sent)
    assert seen is not None
    assert bytes((5, 10)) + blocks[2:10] in seen.header


def test_packet_is_dropped_when_its_options_leave_no_room() -> None:
    client, _ = connected()
    assert client.make(ACK, bytes((77, 40)) + bytes(38)) is None
    assert client.core.tally.unsendable == 1


def test_partial_checksum_is_completed() -> None:
    client, server = connected()
    made = packet(
        client.pair,
        client.isn + client.sent,
        server.isn + server.sent,
        PSH | ACK,
        DATA_OPTIONS,
        b'offloaded',
        partial=True,
    )
    assert not has_good_checksums(made)
    sent = client.core.outgoing(made, partial=True)
    assert sent is not None
    assert has_good_checksums(sent)
    passed = server.core.incoming(sent, partial=True)
    assert passed is not None
    assert has_good_checksums(passed)


@pytest.mark.parametrize('partial', [False, True])
def test_checksum_is_never_zero_on_the_wire(partial: bool) -> None:
    # Linux's TCP-AO takes a segment with a checksum of 0 for its own (seen on 6.12).
    client, server = connected()
    sequence, acknowledgment = client.isn + client.sent, server.isn + server.sent
    fields = set()
    for window in range(65536):
        made = packet(client.pair, sequence, acknowledgment, ACK, window=window, partial=partial)
        sent = client.core.outgoing(made, partial=partial)
        assert sent is not None
        fields.add(sent[36:38])
        if sent[36:38] == b'\xff\xff':
            assert has_good_checksums(sent)
            assert server.core.incoming(sent) is not None
            break
    else:
        raise AssertionError('of so many segments one should have had it')
    assert b'\0\0' not in fields


def test_packet_is_dropped_when_it_would_outgrow_netlink() -> None:
    client, _ = connected()
    assert client.make(ACK, payload=bytes(65531 - 20 - 32 - 16)) is not None
    assert client.make(ACK, payload=bytes(65531 - 20 - 32 - 15)) is None
