"""ExaBGP's peers between two definitions: a reload has brought a new one, and the peer has the old
one.

Upstream changes over when a session ends, and so never for a passive peer without a session. If
either definition is protected, a peer changes over at once, and decisions in between follow the new
definition: `peer.neighbor` alone is the session's old definition.
"""

from __future__ import annotations

from typing import Any

from exabgp.bgp.fsm import FSM

from plugin.configuration.neighbor_protection import Protection
from plugin.configuration.neighbors import protection_of
from plugin.connections import bgp_session as sessions


def neighbor_in_force(peer: Any) -> Any:
    """Return the newest definition of the peer's neighbor."""
    return peer._neighbor or peer.neighbor


def protection_in_force(peer: Any) -> Protection | None:
    """Return the protection in the newest definition; None if that is plain."""
    return protection_of(neighbor_in_force(peer))


def concerns_protection(peer: Any) -> bool:
    """Return True if the peer's old or new definition is protected."""
    return protection_of(peer.neighbor) is not None or protection_in_force(peer) is not None


def change_over(reactor: Any) -> None:
    """Put the definitions of a reload in force where protection is concerned.

    A protected session that is up ends in its peer's next turn, with a NOTIFICATION; everything
    else under the old definition ends here. A peer without a session tries again at once.
    """
    for peer in reactor._peers.values():
        if not concerns_protection(peer):
            continue
        if peer._neighbor is not None and peer._teardown is not None:
            if protection_of(peer.neighbor) is None:
                sessions.end_unprotected_session(reactor, peer)
            elif peer.fsm != FSM.ESTABLISHED:
                peer._reset('the definition of the neighbor has changed')
        elif peer._neighbor is not None:
            _exchange_routes(peer)
        if peer.proto is None:
            peer._delay.reset()


def drop_removed(reactor: Any) -> None:
    """Drop the peers that a reload has removed and that have no connection.

    Before 5.0.14 ExaBGP gives a passive one no turn, so it stays. A later reload that brings its
    name back, as when protection is taken out again, finds it and leaves it as it is: it is given
    the connections of the neighbor, and serves none.
    """
    for name, peer in list(reactor._peers.items()):
        if name not in reactor.configuration.neighbors and peer.proto is None:
            del reactor._peers[name]


def _exchange_routes(peer: Any) -> None:
    """Announce and withdraw the changes of a reload in the static routes of a session that is up.

    Upstream does so when the peer's next message has come, and forgets routes that were removed if
    there is another reload before (Peer._main looks at `_neighbor` between messages).
    """
    coming = peer._neighbor
    previous = coming.previous.changes if coming.previous is not None else []
    peer.neighbor.rib.outgoing.replace_reload(previous, coming.changes)
    coming.previous = None
    peer._neighbor = None
