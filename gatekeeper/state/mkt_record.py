"""The life of an MKT, as a table, and the record of one life.

Everything that may happen to an MKT's state is in TRANSITIONS. What makes it happen is in
`opening`, `accepting`, `rotation` and `ending`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ikev2.authentication.proof import Proof
from tcpao.mkt import Mkt, SocketPair


class MktState(StrEnum):
    """Where an MKT is in its life."""

    REQUESTED = 'requested'
    """An exchange is under way; ids are taken, there is no key yet."""
    NEGOTIATING = 'negotiating'
    """There is a key; it is being installed here (and, by the responder, not yet answered)."""
    INSTALLED = 'installed'
    """Ready: waits for its connection, or for traffic to move to it."""
    IN_USE = 'in use'
    """Current of a proven connection."""
    RETIRING = 'retiring'
    """Has a successor in use; goes after its last segments can have arrived."""
    GONE = 'gone'
    FAILED = 'failed'
    REVOKED = 'revoked'


TRANSITIONS: dict[MktState, frozenset[MktState]] = {
    MktState.REQUESTED: frozenset(
        {MktState.NEGOTIATING, MktState.FAILED, MktState.REVOKED, MktState.GONE}
    ),
    MktState.NEGOTIATING: frozenset(
        {MktState.INSTALLED, MktState.FAILED, MktState.REVOKED, MktState.GONE}
    ),
    MktState.INSTALLED: frozenset(
        {MktState.IN_USE, MktState.FAILED, MktState.REVOKED, MktState.GONE}
    ),
    # Back to INSTALLED: a manual key that another one follows, while its chain still accepts it.
    MktState.IN_USE: frozenset(
        {MktState.RETIRING, MktState.INSTALLED, MktState.REVOKED, MktState.GONE}
    ),
    MktState.RETIRING: frozenset({MktState.REVOKED, MktState.GONE}),
    MktState.GONE: frozenset(),
    MktState.FAILED: frozenset(),
    MktState.REVOKED: frozenset(),
}

ENDED = frozenset({MktState.GONE, MktState.FAILED, MktState.REVOKED})


@dataclass(slots=True, eq=False)
class MktRecord:
    """One MKT from its request to its end."""

    name: str
    """AdminKeyName (RFC 7210)."""
    peer: str
    session_key: str
    pair: SocketPair
    send_id: int
    initiator: bool
    """We asked for it in IKE."""
    state: MktState = MktState.REQUESTED
    recv_id: int | None = None
    promised_recv_id: int | None = None
    """The RecvID taken for it while its key is still to come (RFC 9370)."""
    mkt: Mkt | None = None
    lifetime: int = 0
    installed_at: float = 0.0
    hard_at: float = 0.0
    soft_at: float = 0.0
    lowest_nonce: bytes = b''
    proof: Proof | None = None
    """Of the IKE SA that made it; None before there is a key, and for a manual key."""
    limited: str | None = None
    """Its hard lifetime was shortened since a credential has changed; what to say at its end."""
    revoked: bool = False
    """Nobody may use it any more."""
    exchange: int | None = None
    """Our request's number while it is under way."""
    token: int | None = None
    """The peer's request, while it waits for our answer."""
    on_listener: bool = False
    deleting: bool = False
    """Our DELETE for it is on its way."""
    deleted_by_peer: bool = False
    deleted_at: float = 0.0
    """When both ends knew that it ends."""

    def move(self, state: MktState) -> None:
        """Raises AssertionError for a step that the table doesn't have: a defect of ours."""
        assert state in TRANSITIONS[self.state], f'{self.name}: {self.state} -> {state}'
        self.state = state

    def end(self, state: MktState = MktState.GONE) -> None:
        """The last step, from wherever it is; idempotent. The key is wiped."""
        if self.state in ENDED:
            return
        # An Install of it may still be on its way to the daemon's thread: that one is left to
        # the collector of garbage.
        if self.mkt is not None and self.state is not MktState.NEGOTIATING:
            self.mkt.master_key.wipe()
        self.move(MktState.REVOKED if self.revoked and state is MktState.GONE else state)

    @property
    def authenticated(self) -> float:
        """`now` of the IKE_AUTH that its proof is of; 0 without one."""
        return self.proof.authenticated if self.proof is not None else 0.0

    @property
    def ended(self) -> bool:
        """True after its last step."""
        return self.state in ENDED

    @property
    def key(self) -> Mkt:
        """The MKT of a life that has one."""
        assert self.mkt is not None
        return self.mkt
