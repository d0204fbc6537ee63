"""The part of AUTH that covers IKE_INTERMEDIATE exchanges (RFC 9242, 3.3.2).

Pure functions and one small record. The exchange itself is in exchanges/ike_intermediate.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from ikev2.constants import PayloadType
from ikev2.crypto.prf import prf
from ikev2.wire.message import HEADER_LENGTH
from ikev2.wire.payload import GENERIC_HEADER_LENGTH
from keymaterial import Secret

_LENGTH = slice(24, 28)  # of the IKE header
_NEXT_PAYLOAD = 16


@dataclass(frozen=True, slots=True)
class IntAuth:
    """IntAuth_i and IntAuth_r of the exchanges so far."""

    initiator: bytes = b''
    responder: bytes = b''
    exchanges: int = 0

    def request(self, prf_id: int, sk_pi: Secret, octets: bytes) -> IntAuth:
        """Return this record with one more request; `sk_pi` is the key from before this
        exchange.
        """
        added = prf(prf_id, sk_pi, self.initiator + octets)
        return IntAuth(added, self.responder, self.exchanges + 1)

    def response(self, prf_id: int, sk_pr: Secret, octets: bytes) -> IntAuth:
        """Return this record with one more response; `sk_pr` is the key from before this
        exchange.
        """
        added = prf(prf_id, sk_pr, self.responder + octets)
        return IntAuth(self.initiator, added, self.exchanges)

    @property
    def octets(self) -> bytes:
        """Return IntAuth, which AUTH covers, with the Message ID of IKE_AUTH, which follows at
        once.

        Empty where no exchange took place.
        """
        if not self.exchanges:
            return b''
        return self.initiator + self.responder + (self.exchanges + 1).to_bytes(4, 'big')


def authenticated_octets(associated: bytes, inner: bytes) -> bytes:
    """Return IntAuth_A | IntAuth_P of one message.

    `associated` is everything up to the end of the Encrypted payload's generic header, unchanged
    from the wire; `inner` are the decrypted payloads without padding. Both length fields are
    adjusted: they don't count IV, padding, pad length and checksum.
    """
    octets = bytearray(associated)
    octets[_LENGTH] = (len(associated) + len(inner)).to_bytes(4, 'big')
    octets[-2:] = (GENERIC_HEADER_LENGTH + len(inner)).to_bytes(2, 'big')
    return bytes(octets) + inner


def whole_from_fragment(associated: bytes) -> bytes:
    """Return `associated` of the whole message, made from that of its first fragment (RFC 7383,
    2.5).

    The Encrypted Fragment payload becomes an Encrypted payload: without fragment numbers, and with
    its type in the header before it. In our messages, and in any that we know, that is the IKE
    header.
    """
    octets = bytearray(associated[: HEADER_LENGTH + GENERIC_HEADER_LENGTH])
    octets[_NEXT_PAYLOAD] = PayloadType.SK
    return bytes(octets)
