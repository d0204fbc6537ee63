"""What a packet process that was killed has left is taken away by the next daemon, also by one that
starts none: it has no protected neighbor, or a kernel that protects them.
"""

from __future__ import annotations

from exabgp.logger import log

from plugin.log import LOG


def clear() -> None:
    """Remove rules that a packet process which was killed has left, for none of ours will. They
    stop no daemon, whatever becomes of them."""
    # The packet path is only imported where it is used.
    from tcpao.userspace.rules import leftovers as clearing
    from tcpao.userspace.rules.interface import LEFT_AND_REMOVED, NAME

    try:
        cleared = clearing.clear()
    except Exception as error:
        failure = f'{error!r}; nft list tables and iptables-save show them by the name {NAME}'
        cleared = clearing.Cleared(failure=failure)
    for one in cleared.removed:
        log.info(lambda one=one: f'TCP-AO backend: {LEFT_AND_REMOVED}: {one}', LOG)
    if cleared.failure is not None:
        log.critical(
            lambda: (
                f'TCP-AO backend: left behind by a process that was killed, and not removed: rules '
                f'that drop what they match, of neighbors without protection too: {cleared.failure}'
            ),
            LOG,
        )
