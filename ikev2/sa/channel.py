"""Protection of one IKE SA's messages in both directions, whole or in fragments.

RFC 7296, 3.14; RFC 7383, 2.5 and 2.6. Owns the ciphers, the count of sealings that makes every IV a
new one, and the fragments of incomplete messages. Knows nothing of windows and states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ikev2.crypto.cipher import Cipher
from ikev2.crypto.keys import IkeKeys
from ikev2.errors import IntegrityFailure, MalformedMessage, PeerError
from ikev2.events import Datagrams, IPAddress
from ikev2.limits import KeyLog, Limits
from ikev2.sa.fragments import Reassembly
from ikev2.sa.key_log import table_line
from ikev2.sa.origin import Origin
from ikev2.sa.protection import (
    is_fragment,
    open_fragment,
    open_message,
    seal_fragments,
    seal_message,
)
from ikev2.wire.message import Header, Message
from ikev2.wire.payload import Payload

_IP_HEADER = {4: 20, 6: 40}
_UDP_HEADER = 8
_NON_ESP_MARKER = 4
_COUNT_START = 7
"""Octets of the random start of the count of sealings, which itself has 8."""


class Channel:
    """A channel that seals our messages and opens the peer's.

    The channel takes over the encryption keys: SK_ei and SK_er are wiped in `keys` once the ciphers
    have them.
    """

    _out: Cipher | None
    _in: Cipher | None
    _before: Cipher | None
    _sealed: int

    def __init__(
        self,
        origin: Origin,
        keys: IkeKeys,
        limits: Limits,
        random: Callable[[int], bytes],
        key_log: KeyLog | None = None,
    ) -> None:
        self._fragmentation = origin.fragmentation
        self._limits = limits
        self._random = random
        self._origin = origin
        self._key_log = key_log
        self._in = None
        self.change(keys)
        self.first = b''
        """The last message that was opened, or its fragment 1 (empty if that is missing): received
        again, this datagram asks for a repetition of the answer (RFC 7383, 2.6.1)."""
        # One message is expected in each direction: windows have size 1.
        self._requests: Reassembly | None = None
        self._answers: Reassembly | None = None

    def change(self, keys: IkeKeys) -> None:
        """Use new keys from now on, as IKE_INTERMEDIATE makes them (RFC 9370, 2.2.2)."""
        if self._key_log is not None:
            self._key_log(table_line(self._origin, keys))
        suite = self._origin.suite
        ours = keys.initiator_cipher(suite.encryption)
        theirs = keys.responder_cipher(suite.encryption)
        self._before = self._in
        # A random start: copies of one IKE_SA_INIT answer that differ in octets that make no keys
        # give several IKE SAs the same keys while they are tried (RFC 7296, 2.4), and no IV may be
        # used twice under a key (RFC 5282, 3.1).
        self._sealed = int.from_bytes(self._random(_COUNT_START), 'big')
        self._out, self._in = (ours, theirs) if self._origin.initiator else (theirs, ours)
        keys.sk_ei.wipe()
        keys.sk_er.wipe()

    def settled(self) -> None:
        """Forget the previous keys: no request under them can be the peer's last one any more."""
        self._before = None

    def seal(self, header: Header, payloads: Sequence[Payload], to: IPAddress) -> Datagrams:
        """Return the datagrams of a message: one, or fragments if too long and the peer accepts
        fragments.
        """
        if self._out is None:
            raise ValueError('the keys of this IKE SA are gone')
        whole = seal_message(header, payloads, self._out, self._make_iv())
        largest = self._largest(to)
        if len(whole) <= largest or not self._fragmentation:
            return (whole,)
        return tuple(seal_fragments(header, payloads, self._out, self._make_iv, largest))

    def open(self, datagram: bytes, header: Header) -> Message | None:
        """Return the message, or None while fragments of it are missing.

        Raises IntegrityFailure if `datagram` is not authentic or repeats a fragment, and the other
        errors of open_message if it is authentic and wrong.
        """
        if self._in is None:
            raise IntegrityFailure('the keys of this IKE SA are gone')
        if not is_fragment(datagram):
            self.first = datagram
            whole = open_message(datagram, self._in)
            self.forget_fragments(response=header.response)
            return whole
        if not self._fragmentation:
            raise IntegrityFailure('a fragment from a peer that did not announce them')
        reassembly = self._answers if header.response else self._requests
        if reassembly is None or reassembly.message_id != header.message_id:
            reassembly = Reassembly(header.message_id, self._limits)
        try:
            message = reassembly.add(datagram, self._in)
        except MalformedMessage:
            self.forget_fragments(response=header.response)
            raise
        finally:
            self.first = reassembly.first
        waiting = reassembly if message is None else None
        if header.response:
            self._answers = waiting
        else:
            self._requests = waiting
        return message

    def recognises(self, datagram: bytes) -> bool:
        """Return True if the peer sealed `datagram`, under these keys or (a repetition) the
        previous ones.
        """
        return any(_opens(datagram, cipher) for cipher in (self._in, self._before) if cipher)

    @property
    def incomplete(self) -> bool:
        """Return True while fragments of a request wait for the rest."""
        return self._requests is not None

    def forget_fragments(self, *, response: bool) -> None:
        """Drop fragments of a message that is not expected any more."""
        if response:
            self._answers = None
        else:
            self._requests = None

    def close(self) -> None:
        """Drop the keys and all incomplete messages."""
        self._out = self._in = self._before = None
        self._requests = self._answers = None
        self.first = b''

    def _make_iv(self) -> bytes:
        if self._out is None:
            raise ValueError('the keys of this IKE SA are gone')
        iv = self._out.make_iv(self._sealed, self._random)
        self._sealed += 1
        return iv

    def _largest(self, to: IPAddress) -> int:
        """Return the octets of an IKE message in the longest IP datagram that is not fragmented
        (2.5.1).
        """
        limits = self._limits
        longest = limits.fragment_ipv4 if to.version == 4 else limits.fragment_ipv6
        return longest - _IP_HEADER[to.version] - _UDP_HEADER - _NON_ESP_MARKER


def _opens(datagram: bytes, cipher: Cipher) -> bool:
    try:
        if is_fragment(datagram):
            open_fragment(datagram, cipher)
        else:
            open_message(datagram, cipher)
    except IntegrityFailure:
        return False
    except PeerError:
        pass
    return True
