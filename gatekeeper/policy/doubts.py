"""Doubts about policies: they can be served, but most likely do not do what their operator wants.

Warnings, never errors. No clock: `wall` is in seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from gatekeeper.policy.sessions import PadEntry, SessionPolicy
from ikev2.authentication.credentials import CertifiedKey
from ikev2.authentication.identity import Identity
from ikev2.authentication.signatures.keys import Fingerprint, PrivateKey, PublicKey
from ikev2.constants import IdType

LONG_LIFETIME = 30 * 86400
"""Seconds: a negotiated key with a lifetime above a month is probably a mistake."""


def doubts_about(policies: Iterable[SessionPolicy], wall: float) -> list[str]:
    """Return a sentence for each setting that will not work as it looks; each once."""
    found: dict[str, None] = {}
    for policy in policies:
        for cause in _of_policy(policy, wall):
            found[f'neighbor {policy.neighbor}: {cause}'] = None
    return list(found)


def _of_policy(policy: SessionPolicy, wall: float) -> Iterator[str]:
    if policy.keychain is not None and policy.keychain.preferred(wall) is None:
        yield f'its sessions stay down, since {policy.keychain.why_denied(wall)}'
    if policy.source_port is not None and policy.connect_port is None:
        yield (
            f'source-port {policy.source_port} means nothing, since it is passive: the port of '
            f"the peer's connections is peer-port"
        )
    if policy.pad is not None:
        yield from _of_entry(policy.pad)
        if policy.lifetime > LONG_LIFETIME:
            days = policy.lifetime // 86400
            yield f'a lifetime of {days} days: an hour is usual, and costs nothing'


def _of_entry(pad: PadEntry) -> Iterator[str]:
    for directive, identity in (('local-id', pad.local_id), ('peer-id', pad.peer_id)):
        if _is_address_in_words(identity):
            value = identity.data.decode()
            yield f'{directive} fqdn {value} is an address: {directive} ip {value} says that'
    own = pad.local_credential
    key = own.key if isinstance(own, CertifiedKey) else own
    peers = pad.peer_credential
    if isinstance(key, PrivateKey) and (
        (isinstance(peers, PublicKey) and peers == key.public_key)
        or (isinstance(peers, Fingerprint) and peers == key.public_key.fingerprint)
    ):
        yield "the peer's key is our own: copy the peer's public key here"


def _is_address_in_words(identity: Identity) -> bool:
    if identity.id_type != IdType.FQDN:
        return False
    try:
        ip_address(identity.data.decode('ascii'))
    except ValueError:
        return False
    return True
