"""The Sequence Number Extension: the upper 32 bits that TCP's sequence numbers lack.

One function, as the Linux kernel and RFC 9187 compute it, and a follower of one direction. RFC 5925
6.2's pseudo-code isn't used: its 0x7fff should be 0x7fffffff (erratum 5672) and it goes wrong
when segments are reordered around the wrap.
"""

from __future__ import annotations

_HALF = 1 << 31
_SPACE = 1 << 32


def sne_of(expected: int, sequence: int) -> int:
    """The SNE of a segment with SEG.SEQ `sequence`, 32 bits each.

    `expected` is a 64-bit sequence number (SNE and sequence number) that lies near: what is due
    next. The answer is the SNE that puts the segment within 2 GiB of it; before the connection's
    first octet that wraps to 2**32 - 1, as a MAC that was made so is as good as any.
    """
    return (_nearest(expected, sequence) // _SPACE) % _SPACE


class SneFollower:
    """Follows one direction of a connection from its ISN, and tells every segment's SNE."""

    __slots__ = ('_next',)

    def __init__(self, isn: int) -> None:
        self._next = isn

    @property
    def sne(self) -> int:
        """The SNE of what is due next: how often the sequence numbers have wrapped."""
        return self._next // _SPACE

    def octets_since(self, isn: int) -> int:
        """Return how much sequence space behind the ISN is covered, over all wraps."""
        return self._next - isn

    def sne_of(self, sequence: int) -> int:
        """The SNE of a segment that begins at `sequence`; changes nothing."""
        return sne_of(self._next, sequence)

    def is_new(self, sequence: int, length: int) -> bool:
        """False for a retransmission: sequence space that good segments have covered already."""
        return not length or _nearest(self._next, sequence) + length > self._next

    def advance(self, sequence: int, length: int) -> None:
        """A segment was good: `length` octets of sequence space from `sequence` on.

        Only good ones: a forged segment must not move what is expected. Retransmissions don't.
        """
        self._next = max(self._next, _nearest(self._next, sequence) + length)


def _nearest(expected: int, sequence: int) -> int:
    """The 64-bit number whose lower half is `sequence`, nearest to `expected`."""
    return expected + ((sequence - expected + _HALF) % _SPACE) - _HALF
