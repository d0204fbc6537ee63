"""The responder's cookies (RFC 7296, 2.6).

No state and no key exchange before the initiator has answered from its address.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hashlib import sha256

from ikev2.events import IPAddress

_SECRET_LENGTH = 32


class CookieJar:
    """A maker of cookies that recognises its own.

    Secrets change; the previous one is still accepted.
    """

    def __init__(self, random: Callable[[int], bytes], secret_lifetime: float) -> None:
        self._random = random
        self._lifetime = secret_lifetime
        self._version = 0
        self._since: float | None = None
        self._secrets: dict[int, bytes] = {}

    def make(self, spi: bytes, nonce: bytes, address: IPAddress, now: float) -> bytes:
        """Return a cookie of 33 octets: version of the secret, then HMAC-SHA-256 over Ni, IPi and
        SPIi.
        """
        self._turn(now)
        return self._cookie(self._version, spi, nonce, address)

    def knows(
        self, cookie: bytes, spi: bytes, nonce: bytes, address: IPAddress, now: float
    ) -> bool:
        """Return True if we made the cookie for just this initiator, with one of the last two
        secrets.
        """
        self._turn(now)
        if not cookie or cookie[0] not in self._secrets:
            return False
        return hmac.compare_digest(cookie, self._cookie(cookie[0], spi, nonce, address))

    def _cookie(self, version: int, spi: bytes, nonce: bytes, address: IPAddress) -> bytes:
        digest = hmac.digest(self._secrets[version], nonce + address.packed + spi, sha256)
        return bytes([version]) + digest

    def _turn(self, now: float) -> None:
        if self._since is not None and now < self._since + self._lifetime:
            return
        # After a long silence the previous secret is as old as the silence: forget it too.
        stale = self._since is None or now >= self._since + 2 * self._lifetime
        previous = self._version
        self._version = (previous + 1) % 256
        kept = {} if stale else {previous: self._secrets[previous]}
        self._secrets = {**kept, self._version: self._random(_SECRET_LENGTH)}
        self._since = now
