"""Which queues a process listens on, for root and for others."""

from __future__ import annotations

from collections.abc import Collection

from tcpao.userspace.netlink.nfqueue import Queue, QueueError, QueueTakenError, bound_queues


def listened_on(numbers: Collection[int]) -> set[int]:
    """Return those of these queues that a process of this network namespace listens on.

    Only root may read the kernel's list. With CAP_NET_ADMIN alone, as a service has it, the answer
    comes from an attempt to listen, for a moment; the packets of that moment are dropped. Raises
    QueueError without that privilege.
    """
    if not numbers:
        return set()
    try:
        return bound_queues() & set(numbers)
    except QueueError:
        return {number for number in numbers if not _is_free(number)}


def _is_free(number: int) -> bool:
    try:
        Queue(number).close()
    except QueueTakenError:
        return False
    return True
