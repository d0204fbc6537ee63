"""Recognition of an accepted socket: which session it belongs to, by the keys that it came up with.

Decides only; `connection_keys` acts on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gatekeeper.policy.keychain import ChainKey
from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.state.limits import CEASE_BEFORE
from tcpao.installer import KeyState


@dataclass(frozen=True, slots=True)
class Recognized:
    """The session of a socket, and the keys of its chain that the socket has."""

    policy: SessionPolicy
    keys: tuple[ChainKey, ...]
    current: ChainKey
    rnext: ChainKey


def recognize(candidates: Iterable[SessionPolicy], seen: KeyState, wall: float) -> Recognized | str:
    """Return the first session whose chain accepts the socket's keys, or why there is none."""
    if seen.current is None or not seen.keys:
        return 'the socket has no TCP-AO'
    on_socket = {(key.send_id, key.recv_id) for key in seen.keys}
    against = ''
    for policy in candidates:
        chain = policy.keychain
        assert chain is not None
        there = [k for k in chain.accepted(wall) if (k.send_id, k.recv_id) in on_socket]
        current = next((key for key in there if key.send_id == seen.current), None)
        rnext = next((key for key in there if key.recv_id == seen.rnext), None)
        denied = chain.denies(wall, CEASE_BEFORE)
        if denied is not None:
            against = denied
        elif current is None or rnext is None:
            against = (
                f'the socket came up under a key that keychain {chain.name} does not accept: '
                f'Current {seen.current}, RNext {seen.rnext}'
            )
        else:
            return Recognized(policy, tuple(there), current, rnext)
    return against
