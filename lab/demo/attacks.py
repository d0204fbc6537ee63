"""The impostors of the demo: their attacks, and the results that count as refused.

Two of them have the position of an attacker who owns nothing: on a separate link, with an address
that no configuration has. The others control the path: r2's route to r1's address leads to them.

`python -m lab.demo.attacks` runs in the impostor's node: it reads orders on standard input, and
prints an event for each attack and an empty line after the last one of an order. `--tcp-ao-backend`
chooses the backend that signs.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatekeeper.reporting.events import EventName, OperatorEvent
from ikev2 import Fingerprint, Identity, PrivateKey
from lab.demo.places import BGP, IMPOSTOR, IMPOSTOR_PORTS, R1, R2
from lab.impostors import (
    Ending,
    IkeOutcome,
    TcpKey,
    ask_for_ike_sa,
    bgp_open,
    prepare,
    speak,
)
from lab.tcpao_backend import add_option
from tcpao.backend import Preference
from tcpao.mkt import ALGORITHMS

# Seconds that an attacker waits for an answer that must not come: a SYN is sent twice in that time.
PATIENCE = 1.5
# Seconds to wait for an answer that must come, on a busy machine.
ANSWERED_WITHIN = 8.0
TARGET = (R2, BGP)
OPEN = bgp_open(65001, R1)

Attack = Callable[[], tuple[str, bool]]
"""Returns a text, and True if the attack was refused without a BGP octet."""


def _spoken(source: str, port: int = 0, key: TcpKey | None = None) -> tuple[str, bool]:
    outcome = speak(source, TARGET, ANSWERED_WITHIN, source_port=port, key=key, hello=OPEN)
    refused = not outcome.octets and outcome.ending is not Ending.STILL_OPEN
    return f'{outcome.ending}, {len(outcome.octets)} octets received', refused


def _connection(source: str, port: int, key: TcpKey | None) -> tuple[str, bool]:
    """Try a connection that must not even come up."""
    outcome = speak(source, TARGET, PATIENCE, source_port=port, key=key, hello=OPEN)
    return str(outcome.ending), outcome.ending is Ending.NO_CONNECTION and not outcome.octets


def _ike(source: str, name: str, seconds: float) -> IkeOutcome:
    return ask_for_ike_sa(
        source=source,
        target=R2,
        local_id=Identity.parse('fqdn', name),
        remote_id=Identity.parse('fqdn', 'r2.lab'),
        credential=PrivateKey(Ed25519PrivateKey.generate()),
        # Any identity of r2: the attacker accepts every responder.
        expected=Fingerprint(bytes(32)),
        seconds=seconds,
    )


def _ignored_ike(source: str, name: str) -> tuple[str, bool]:
    outcome = _ike(source, name, PATIENCE)
    return outcome.text, not outcome.up and not outcome.answered


def _refused_ike(source: str, name: str) -> tuple[str, bool]:
    outcome = _ike(source, name, ANSWERED_WITHIN)
    return outcome.text, outcome.answered and not outcome.up


def from_own_address() -> dict[str, Attack]:
    """Return attacks from an address that no neighbor has."""
    return {
        'plain TCP from an unknown address': lambda: _spoken(IMPOSTOR),
        'IKE with an unknown identity from an unknown address': lambda: _ignored_ike(
            IMPOSTOR, 'impostor.lab'
        ),
    }


def from_address_of_r1(send_id: int, recv_id: int, backend: Preference) -> dict[str, Attack]:
    """Return attacks from r1's address; the ids are those of the key in use."""
    wrong = TcpKey(ALGORITHMS['hmac-sha-1-96'], send_id, recv_id, os.urandom(20), backend)
    deny = TcpKey(ALGORITHMS['hmac-sha-1-96'], 0, 0, os.urandom(32), backend)
    first, second, third = IMPOSTOR_PORTS
    return {
        "unsigned SYN from r1's address": lambda: _connection(R1, first, None),
        "SYN from r1's address under a wrong key with the live key's ids": lambda: _connection(
            R1, second, wrong
        ),
        "SYN from r1's address under a wrong key with the deny key's ids": lambda: _connection(
            R1, third, deny
        ),
        "IKE as r1.lab from r1's address with another key": lambda: _refused_ike(R1, 'r1.lab'),
        "IKE from r1's address with an unknown identity": lambda: _refused_ike(R1, 'mallory.lab'),
    }


def run(attacks: dict[str, Attack]) -> None:
    """Print a `refused` event for each attack; attacks by IKE, with its one port, run in sequence.

    The event's detail `refused` is False for an attack that succeeded.
    """
    by_ike = [name for name in attacks if name.startswith('IKE')]
    groups = [by_ike, *([name] for name in attacks if name not in by_ike)]

    def in_turn(names: list[str]) -> list[OperatorEvent]:
        return [_attempt(name, attacks[name]) for name in names]

    with ThreadPoolExecutor(len(groups)) as pool:
        for done in as_completed([pool.submit(in_turn, group) for group in groups]):
            for event in done.result():
                print(event.to_json())
    print(flush=True)


def _attempt(name: str, attempt: Attack) -> OperatorEvent:
    outcome, refused = attempt()
    return OperatorEvent(
        time.time(),
        'r2',
        None,
        EventName.REFUSED,
        {'impostor': name, 'outcome': outcome, 'refused': refused},
    )


def main() -> None:
    """Execute orders, one a line, until the end of the input."""
    parser = argparse.ArgumentParser(prog='python -m lab.demo.attacks', description=__doc__)
    add_option(parser)
    backend = parser.parse_args().backend
    for line in sys.stdin:
        who, *ids = line.split()
        if who == 'stranger':
            run(from_own_address())
            # At a moment when nothing waits for it.
            prepare(backend)
        else:
            send_id, recv_id = map(int, ids)
            run(from_address_of_r1(send_id, recv_id, backend))


if __name__ == '__main__':
    main()
