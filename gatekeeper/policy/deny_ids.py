"""KeyIDs of the deny key of each peer: 0, or ids that none of its keychains uses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gatekeeper.policy.keychain import ChainKey, Keychain
from gatekeeper.policy.sessions import SessionPolicy
from tcpao.installer import DENY_ID
from tcpao.mkt import IPAddress

_IDS = (DENY_ID, *range(255, 0, -1))


def chains_of(policies: Iterable[SessionPolicy]) -> list[tuple[SessionPolicy, Keychain]]:
    """Return the sessions with manual keys."""
    return [(policy, policy.keychain) for policy in policies if policy.keychain is not None]


def deny_ids(policies: Iterable[SessionPolicy]) -> dict[IPAddress, tuple[int, int]]:
    """Return SendID and RecvID of each peer's deny key: 0, or ids that none of its keychains
    uses.
    """
    policies = tuple(policies)
    keys = keys_towards(policies)
    return {policy.remote: _unused(keys.get(policy.remote, ())) for policy in policies}


def _unused(keys: Sequence[ChainKey]) -> tuple[int, int]:
    sending, receiving = {key.send_id for key in keys}, {key.recv_id for key in keys}
    return (
        next(number for number in _IDS if number not in sending),
        next(number for number in _IDS if number not in receiving),
    )


def keys_towards(policies: Iterable[SessionPolicy]) -> dict[IPAddress, list[ChainKey]]:
    found: dict[IPAddress, list[ChainKey]] = {}
    for policy, chain in chains_of(policies):
        found.setdefault(policy.remote, []).extend(chain.keys)
    return found
