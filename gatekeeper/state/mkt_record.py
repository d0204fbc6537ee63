"""The states of an MKT, as a table, and the record of one MKT.

TRANSITIONS has every change of state. The causes are in `opening`, `accepting`, `rotation` and
`ending`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from ikev2.authentication.proof import Proof
from tcpao.installer import NO_TRAFFIC, Traffic
from tcpao.mkt import Mkt, SocketPair


class VolumeStage(IntEnum):
    """The part of its volume that an MKT has protected, as acted on."""

    BELOW_SOFT = 0
    SOFT = 1
    """A successor was requested."""
    SPENT = 2
    """It ends soon, with a successor or without."""


class MktState(StrEnum):
    """The state of an MKT."""

    REQUESTED = 'requested'
    """An exchange is under way; ids are taken, there is no key yet."""
    NEGOTIATING = 'negotiating'
    """There is a key, which is being installed here (and, by the responder, not yet answered)."""
    INSTALLED = 'installed'
    """Ready: waits for its connection, or for traffic to change to it."""
    IN_USE = 'in use'
    """Current on a proven connection."""
    RETIRING = 'retiring'
    """Has a successor in use; is removed once its last segments must have arrived."""
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
    # Back to INSTALLED: a manual key with a successor, while its chain still accepts it.
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
    """True if we requested it in IKE."""
    state: MktState = MktState.REQUESTED
    recv_id: int | None = None
    promised_recv_id: int | None = None
    """The RecvID taken for it while its key is not there yet (RFC 9370)."""
    mkt: Mkt | None = None
    lifetime: int = 0
    installed_at: float = 0.0
    hard_at: float = 0.0
    soft_at: float = 0.0
    lowest_nonce: bytes = b''
    proof: Proof | None = None
    """The proof of the IKE SA that made it; None before there is a key, and for a manual key."""
    limited: str | None = None
    """The reason for a hard lifetime that was shortened after a change of a credential."""
    counted_from: Traffic = NO_TRAFFIC
    """The connection's traffic when this MKT began to come into use."""
    volume_stage: VolumeStage = VolumeStage.BELOW_SOFT
    revoked: bool = False
    """True if neither side may use it any more."""
    exchange: int | None = None
    """The number of our request while it is under way."""
    token: int | None = None
    """The peer's request, while it waits for our answer."""
    on_listener: bool = False
    deleting: bool = False
    """True while our DELETE for it is under way."""
    deleted_by_peer: bool = False
    deleted_at: float = 0.0
    """When both ends knew of its end."""

    def move(self, state: MktState) -> None:
        """Change the state.

        Raises AssertionError for a change that is not in the table, our own bug.
        """
        assert state in TRANSITIONS[self.state], f'{self.name}: {self.state} -> {state}'
        self.state = state

    def end(self, state: MktState = MktState.GONE) -> None:
        """Change to an end state, from any state, and wipe the key; a second call changes
        nothing.
        """
        if self.state in ENDED:
            return
        # An Install of this key may still wait for the daemon's thread: then the key is left to
        # garbage collection.
        if self.mkt is not None and self.state is not MktState.NEGOTIATING:
            self.mkt.master_key.wipe()
        self.move(MktState.REVOKED if self.revoked and state is MktState.GONE else state)

    @property
    def authenticated(self) -> float:
        """Return `now` of the IKE_AUTH of its proof; 0 without one."""
        return self.proof.authenticated if self.proof is not None else 0.0

    @property
    def ended(self) -> bool:
        """Return True in an end state."""
        return self.state in ENDED

    @property
    def key(self) -> Mkt:
        """Return the MKT of a record that has one."""
        assert self.mkt is not None
        return self.mkt
