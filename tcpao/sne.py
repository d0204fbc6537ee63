"""The Sequence Number Extension: the upper 32 bits that TCP's sequence numbers lack.

One function, with the results of the Linux kernel and of RFC 9187, and a follower of one direction.
RFC 5925 6.2's pseudo-code isn't used: its 0x7fff should be 0x7fffffff (erratum 5672) and it goes
wrong when segments are reordered around the wrap.
"""

from __future__ import annotations

_HALF = 1 << 31
_SPACE = 1 << 32


def sne_of(expected: int, sequence: int) -> int:
    """Return the SNE of a segment with SEG.SEQ `sequence`, 32 bits each.

    `expected` is a nearby 64-bit sequence number (SNE and sequence number): the next one expected.
    The result is the SNE that puts the segment within 2 GiB of it; before the connection's first
    octet that wraps to 2**32 - 1, which is as good as any other value there.
    """
    return (_nearest(expected, sequence) // _SPACE) % _SPACE


class SneFollower:
    """A follower of one direction of a connection from its ISN, which returns each segment's
    SNE.
    """

    __slots__ = ('_next',)

    def __init__(self, isn: int) -> None:
        self._next = isn

    @property
    def sne(self) -> int:
        """Return the SNE of the next expected octet: how often the sequence numbers have
        wrapped.
        """
        return self._next // _SPACE

    def octets_since(self, isn: int) -> int:
        """Return the octets of sequence space since the ISN, over all wraps."""
        return self._next - isn

    def sne_of(self, sequence: int) -> int:
        """Return the SNE of a segment that begins at `sequence`; changes nothing."""
        return sne_of(self._next, sequence)

    def is_new(self, sequence: int, length: int) -> bool:
        """Return False for a retransmission, whose sequence space good segments have covered
        already.
        """
        return not length or _nearest(self._next, sequence) + length > self._next

    def advance(self, sequence: int, length: int) -> None:
        """Note a good segment: `length` octets of sequence space from `sequence` on.

        Only for good segments: a forged one must not change the next expected octet. A
        retransmission does not change it.
        """
        self._next = max(self._next, _nearest(self._next, sequence) + length)


def _nearest(expected: int, sequence: int) -> int:
    """Return the 64-bit number whose lower half is `sequence`, nearest to `expected`."""
    return expected + ((sequence - expected + _HALF) % _SPACE) - _HALF
