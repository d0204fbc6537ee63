"""The removal of rules that a killed packet process or keeper has left.

Done by the next daemon, even if it starts none: it has no protected neighbor, or a kernel that
protects them.
"""

from __future__ import annotations

from collections.abc import Callable

from exabgp.logger import log

from plugin.log import LOG
from tcpao.userspace.rules.interface import LEFT_AND_REMOVED, NAME


def clear() -> None:
    """Remove rules of a killed packet process, and second nets, since no process of ours will.

    No failure here stops the daemon.
    """
    # The packet path is imported only where it is used.
    from tcpao.userspace.rules import leftovers as clearing

    try:
        cleared = clearing.clear()
    except Exception as error:
        failure = f'{error!r}; nft list tables and iptables-save show them by the name {NAME}'
        cleared = clearing.Cleared(failure=failure)
    for one in cleared.removed:
        log.info(_line(f'TCP-AO backend: {LEFT_AND_REMOVED}: {one}'), LOG)
    if cleared.failure is not None:
        _complain(cleared.failure)
    clear_nets()


def clear_nets() -> None:
    """Remove second nets of killed daemons, where ours will not replace them."""
    from tcpao.second_net.leftovers import remove_left_behind

    try:
        removed = remove_left_behind()
    except Exception as error:
        _complain(f'{error}; nft list tables shows them by the name {NAME}-net')
        return
    for one in removed:
        log.info(_line(f'TCP-AO backend: {LEFT_AND_REMOVED}: {one}'), LOG)


def _complain(failure: str) -> None:
    log.critical(
        _line(
            f'TCP-AO backend: left behind by a process that was killed, and not removed: rules '
            f'that drop what they match, of neighbors without protection too: {failure}'
        ),
        LOG,
    )


def _line(text: str) -> Callable[[], str]:
    return lambda: text
