"""The text of the second net for iptables."""

from __future__ import annotations

from ipaddress import ip_address

from tcpao.second_net.iptables_ruleset import Listing, read, restoration, stands
from tcpao.second_net.ruleset import Service

SERVICE: Service = (ip_address('10.0.0.2'), 179)
LEFT = """# Generated
*raw
:PREROUTING ACCEPT [9:900]
:exabgp-gk-net-7-i - [0:0]
:exabgp-gk-net-7-ij - [0:0]
[9:900] -A PREROUTING -p tcp -m addrtype --dst-type LOCAL -j exabgp-gk-net-7-i
[1:60] -A PREROUTING -j SOMEBODY
[2:80] -A exabgp-gk-net-7-i -s 10.0.0.2/32 -p tcp -m tcp --sport 179 -j exabgp-gk-net-7-ij
[3:120] -A exabgp-gk-net-7-ij -j DROP
COMMIT
"""


def test_listing_has_our_chains_jumps_and_drops() -> None:
    there = read(LEFT)
    assert there.numbers == {7}
    assert len(there.jumps['raw', 7]) == 1
    assert there.rules['raw', 7] == 2
    assert there.packets['raw', 7] == 3


def test_nothing_is_written_when_there_is_nothing_to_remove() -> None:
    assert restoration(Listing(), 3, ()) == ''


def test_removal_takes_our_rules_and_chains_only() -> None:
    text = restoration(read(LEFT), 7, ())
    assert 'SOMEBODY' not in text
    assert '-D PREROUTING -p tcp -m addrtype --dst-type LOCAL -j exabgp-gk-net-7-i' in text
    assert text.index('-F exabgp-gk-net-7-i\n') < text.index('-X exabgp-gk-net-7-ij\n')
    assert '*mangle' not in text


def test_leftover_net_goes_in_the_same_transaction() -> None:
    text = restoration(read(LEFT), 3, [SERVICE], without=[7])
    raw, _, _ = text.partition('COMMIT')
    assert '-X exabgp-gk-net-7-i' in raw
    assert '-s 10.0.0.2 -p tcp -m tcp --dport 179 -j exabgp-gk-net-3-ij' in raw


def test_net_does_not_stand_when_a_jump_is_gone() -> None:
    text = restoration(Listing(), 3, [SERVICE])
    saved = text.replace('-I PREROUTING 1', '-A PREROUTING')
    saved = saved.replace('-I POSTROUTING 1', '-A POSTROUTING')
    assert stands(read(saved), 3, [SERVICE])
    flushed = ''.join(
        f'{line}\n' for line in saved.splitlines() if not line.startswith('-A PREROUTING')
    )
    assert not stands(read(flushed), 3, [SERVICE])
