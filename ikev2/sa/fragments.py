"""Reassembly of the fragments of one message (RFC 7383, 2.6), with bounds on all that is kept.

Only authentic fragments are kept, and only of the message that is expected; the IKE SA decides when
to give up.
"""

from __future__ import annotations

from ikev2.crypto.cipher import Cipher
from ikev2.errors import IntegrityFailure, MalformedMessage, PeerError
from ikev2.limits import Limits
from ikev2.sa.protection import Fragment, assemble, open_fragment
from ikev2.wire.message import Message
from ikev2.wire.payloads import EncryptedFragmentPayload


class Reassembly:
    """The fragments of the message with one Message ID, in one direction."""

    def __init__(self, message_id: int, limits: Limits) -> None:
        self.message_id = message_id
        self.first = b''
        """The datagram of fragment 1, once an authentic one has arrived."""
        self._limits = limits
        self._total = 0
        self._size = 0
        self._kept: dict[int, Fragment] = {}

    def add(self, datagram: bytes, cipher: Cipher) -> Message | None:
        """Add a fragment, and return the message once it is complete.

        Raises IntegrityFailure for a fragment to be dropped in silence: not authentic, already
        received, or of an older set. Raises MalformedMessage, also for an authentic set that is too
        large (RFC 7383, 5), and UnsupportedCriticalPayload for the content of the message.
        """
        number, total = _numbers(datagram)
        if total < self._total or (total == self._total and number in self._kept):
            raise IntegrityFailure(f'fragment {number} of {total} is of no use')
        fragment = open_fragment(datagram, cipher)
        if total > self._total:
            # The peer cut the same message into smaller pieces (2.5.2): begin again.
            self._total, self._size = total, 0
            self._kept.clear()
            self.first = b''
        elif any(one.header != fragment.header for one in self._kept.values()):
            raise IntegrityFailure('fragments of two messages with one Message ID')
        if fragment.number == 1:
            self.first = datagram
        self._size += len(fragment.content)
        if total > self._limits.fragments_most or self._size > self._limits.reassembled_most:
            raise MalformedMessage(f'message of {total} fragments, {self._size} octets so far')
        self._kept[number] = fragment
        if len(self._kept) < total:
            return None
        return assemble([self._kept[index] for index in range(1, total + 1)])


def _numbers(datagram: bytes) -> tuple[int, int]:
    """Return Fragment Number and Total Fragments. Authenticates nothing."""
    try:
        payload = Message.decode(datagram).payloads[-1]
    except PeerError as error:
        raise IntegrityFailure(f'not authentic: {error}') from None
    if not isinstance(payload, EncryptedFragmentPayload):
        raise IntegrityFailure('no fragment')
    return payload.number, payload.total


def first_fragment(datagram: bytes) -> bool:
    """Return True for fragment 1: that fragment makes us repeat an answer (RFC 7383, 2.6.1)."""
    try:
        return _numbers(datagram)[0] == 1
    except IntegrityFailure:
        return False
