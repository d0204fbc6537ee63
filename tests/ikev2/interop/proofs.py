"""Ways to prove an identity, with what both implementations need for each."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from ikev2.authentication.auth import LocalCredential, PeerCredential, PresharedKey, PrivateKey
from keymaterial import Secret
from tests.ikev2.interop.wire import OUR_NAME, PEER_NAME
from tests.ikev2.pki import DAY, Holder, keys, root

_WORDS = {
    'rsa': 'RSA-2048',
    'rsa-3072': 'RSA-3072',
    'ecdsa-p256': 'ECDSA P-256',
    'ecdsa-p384': 'ECDSA P-384',
    'ecdsa-p521': 'ECDSA P-521',
    'ed25519': 'Ed25519',
    'ed448': 'Ed448',
    'ml-dsa-65': 'ML-DSA-65',
}
"""For the kinds of keys of tests.ikev2.pki."""

PSK = 'correct horse battery staple, and then some more'


@dataclass(frozen=True)
class Proof:
    """The way in which one end proves its identity: a pre-shared key, a raw key, or a
    certificate."""

    name: str
    psk: str = ''
    key: Any = None
    """The private key; None with a pre-shared one."""
    chain: tuple[Holder, ...] = ()
    """The end's certificate, then the CAs between it and the trust anchor."""
    anchor: Holder | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def credential(self) -> LocalCredential:
        """Ours, if it is us who prove themselves so."""
        if self.psk:
            return PresharedKey(Secret(self.psk.encode()))
        if self.chain:
            leaf, *others = self.chain
            return leaf.credential(*others)
        return PrivateKey(self.key)

    @property
    def accepted(self) -> PeerCredential:
        """Return the credential that we accept from a peer with this proof."""
        if self.psk:
            return PresharedKey(Secret(self.psk.encode()))
        if self.anchor:
            return self.anchor.trust()
        return PrivateKey(self.key).public_key

    @property
    def private_pem(self) -> bytes:
        """The private key for another implementation."""
        pem: bytes = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return pem

    @property
    def public_pem(self) -> bytes:
        """The public key for another implementation."""
        pem: bytes = self.key.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        return pem


def shared(psk: str = PSK) -> Proof:
    """A pre-shared key."""
    return Proof('PSK', psk=psk)


def raw(kind: str, end: str) -> Proof:
    """A raw public key, which the other end has in a file; each end has another one."""
    return Proof(f'raw {_WORDS[kind]} key', key=_key(kind, end))


@cache
def certified(
    kind: str, end: str, between: int = 0, other_name: x509.GeneralName | None = None
) -> Proof:
    """A certificate with `between` CAs below the anchor, all with keys of one kind.

    Each end has a trust anchor of its own, that the other end is told.
    """
    now = time.time()
    valid: dict[str, Any] = {'not_before': now - DAY, 'not_after': now + DAY}
    anchor = issuer = root(f'CN=root of {end},O=lab', key=_key(kind, f'{end}/root'), **valid)
    chain: list[Holder] = []
    for number in range(between):
        key = _key(kind, f'{end}/{number}')
        issuer = issuer.ca(f'CN=CA {number} of {end},O=lab', key=key, **valid)
        chain.insert(0, issuer)
    names = (other_name or x509.DNSName(end),)
    leaf = issuer.leaf(f'CN={end},O=lab', *names, key=_key(kind, end), **valid)
    what = f'{_WORDS[kind]} certificate'
    if between:
        what += f', intermediate CAs: {between}'
    return Proof(what, key=leaf.key, chain=(leaf, *chain), anchor=anchor)


def both_raw(kind: str) -> tuple[Proof, Proof]:
    """Ours and theirs."""
    return raw(kind, OUR_NAME), raw(kind, PEER_NAME)


def both_certified(kind: str, between: int = 0) -> tuple[Proof, Proof]:
    """Ours and theirs."""
    return certified(kind, OUR_NAME, between), certified(kind, PEER_NAME, between)


def proof(words: str, end: str) -> Proof:
    """`PSK`, `raw KIND` or `certified KIND`: in tables of tests, which make no keys when read."""
    how, _, kind = words.partition(' ')
    if how == 'PSK':
        return shared()
    return raw(kind, end) if how == 'raw' else certified(kind, end)


def proofs(words: str) -> tuple[Proof, Proof]:
    """Ours and theirs."""
    return proof(words, OUR_NAME), proof(words, PEER_NAME)


_numbers: dict[str, int] = {}


def _key(kind: str, whose: str) -> Any:
    return keys(kind, _numbers.setdefault(whose, 5000 + len(_numbers)))
