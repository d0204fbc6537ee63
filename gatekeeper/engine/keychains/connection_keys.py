"""Manual keys on one connection: the same steps as for negotiated ones, without IKE.

A connection of a session with a keychain holds every key that its chain accepts.
`gatekeeper.engine.rotation` brings the preferred key into use, like a negotiated successor; it asks
`KeychainKeys` for the differences: when a key in use ends, and what happens to the old one, to a
successor that fails, and with a peer that doesn't follow.

Current follows the peer's RNextKeyID (RFC 5925 7.5), so traffic may go on under a key for up to
`grace` after its send-lifetime, while the peer changes; never after its accept-lifetime.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from gatekeeper.engine import ending, rotation
from gatekeeper.engine.keychains.failed_keys import FailedKeys
from gatekeeper.engine.keychains.mkts import begin_life
from gatekeeper.engine.keychains.recognition import Recognized, recognize
from gatekeeper.policy.keychain import ChainKey, Keychain
from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.reporting.events import EventName
from gatekeeper.reporting.explanations import Explanation
from gatekeeper.reporting.reasons import Reason
from gatekeeper.state.connection import Connection, Phase
from gatekeeper.state.deadlines import Due
from gatekeeper.state.limits import (
    CEASE_BEFORE,
    OLD_KEY_LINGERS,
    RETRY_REMOVE,
)
from gatekeeper.state.mkt_record import MktRecord, MktState
from gatekeeper.state.rotation import Rotation
from gatekeeper.state.store import Store
from tcpao.installer import Failed, Install, KeyState, Probe, Read, Where
from tcpao.mkt import Mkt

_ON_SOCKET = frozenset({MktState.INSTALLED, MktState.IN_USE, MktState.RETIRING})


@dataclass(eq=False, slots=True)
class KeychainKeys:
    """The keys of a chain on one connection."""

    _state: Store
    _conn: Connection
    candidates: tuple[SessionPolicy, ...]
    """The sessions that an accepted connection may belong to, until its key has told."""
    held: dict[str, tuple[ChainKey, MktRecord]] = field(default_factory=dict)
    """Every key on the socket, or being installed, by the name of its MKT record."""
    revoked_at: dict[str, float] = field(default_factory=dict)
    """When a key in use was first missing from the chain."""
    failed: FailedKeys = field(default_factory=FailedKeys)
    given_up: set[tuple[int, int]] = field(default_factory=set)
    """Keys that were removed although the chain still accepts them: the ids of each."""

    # --- present keys -----------------------------------------------------------------------------

    def mkts(self) -> list[MktRecord]:
        """Return every key that has not ended."""
        return [life for _, life in self.held.values() if not life.ended]

    def number_of(self, life: MktRecord) -> int | None:
        """Return the number of a key in its chain; None for a placeholder."""
        return self.key_of(life).number if life.name in self.held else None

    def key_of(self, life: MktRecord) -> ChainKey:
        """Return the chain's key, as it was when this MKT record began."""
        return self.held[life.name][0]

    def life_of(self, key: ChainKey) -> MktRecord | None:
        """Return the MKT record of a key of the chain on this connection, or None."""
        return next(
            (life for held, life in self.held.values() if held.is_same_key(key) and not life.ended),
            None,
        )

    def add(self, key: ChainKey, now: float) -> MktRecord:
        """Begin the record of a key on this connection; it is being installed, or was inherited."""
        life = begin_life(self._state, self._conn.policy, self._conn.pair, key, now)
        self._state.keyed.append((self._conn.policy, self._conn.opener, life.key))
        self.held[life.name] = (key, life)
        return life

    def permits(self, policy: SessionPolicy) -> bool:
        """Return True if there still is a keychain: it decides which of the keys may stay."""
        return policy.keychain is not None

    @property
    def awaits_one_syn(self) -> bool:
        """Return False: the keys on the listener are for every connection."""
        return False

    def keys(self) -> tuple[Mkt, ...]:
        """Return the MKTs of all keys that have not ended."""
        return tuple(life.key for life in self.mkts())

    def has_ended_key(self, wall: float) -> bool:
        """Return True if the accept-lifetime of a key on the socket is over at this time (UTC)."""
        there = (key for key, life in self.held.values() if life.state in _ON_SOCKET)
        return any(key.accept.end <= wall for key in there)

    def _chain(self) -> Keychain:
        assert self._conn.policy.keychain is not None
        return self._conn.policy.keychain

    def _preferred(self, wall: float, now: float) -> ChainKey | None:
        return self._chain().preferred(wall, self.failed.banned(now))

    # --- proving --------------------------------------------------------------------------------

    def judge(self, seen: KeyState, now: float) -> str | None:
        """Return the objection to the socket being protected by the session's chain.

        Without one, the connection's key becomes the one that it came up with.
        """
        found = recognize(self.candidates, seen, self._state.wall(now))
        if isinstance(found, str):
            return found
        self._came_up(found, now)
        return None

    def _came_up(self, found: Recognized, now: float) -> None:
        self._conn.policy, self.candidates = found.policy, (found.policy,)
        for key in found.keys:
            if self.life_of(key) is None:
                self.add(key, now).move(MktState.INSTALLED)
        for key, life in list(self.held.values()):
            if key not in found.keys:
                # The listener got it after the handshake, or it belongs to another session's chain.
                life.end()
                del self.held[life.name]
        # Where the peer signs with one key and asks for another, one side has yet to change.
        preferred = self._preferred(self._state.wall(now), now)
        yet_to_change = preferred is not None and preferred.is_same_key(found.current)
        moving = found.rnext if yet_to_change else found.current
        moved = self.life_of(moving)
        assert moved is not None
        if self._conn.mkt_in_use.name not in self.held:
            # A placeholder until the key was known.
            self._conn.mkt_in_use.end()
        self._conn.mkt_in_use = moved

    # --- bringing the right key into use --------------------------------------------------------

    def sync(self, now: float) -> None:
        """Make the connection's keys those of the chain now, and change to the preferred one."""
        self._state.deadlines.cancel(Due.SYNC, self._conn)
        if self._conn.phase is not Phase.PROVEN:
            return
        chain, wall = self._chain(), self._state.wall(now)
        accepted = chain.accepted(wall)
        for key, life in list(self.held.values()):
            if not any(key.is_same_key(other) for other in accepted):
                self._not_accepted(key, life, now)
        if any(key.clashes(held) for key in accepted for held, _ in self.held.values()):
            # Its ids belong to another key, and both can't be on one socket.
            ending.close(
                self._state, self._conn, f'ids of keychain {chain.name} changed hands', now
            )
            return
        for key in accepted:
            if self.life_of(key) is None and (key.send_id, key.recv_id) not in self.given_up:
                life = self.add(key, now)
                self._state.command(Install(life.key, Where.CONNECTION))
        self._move(now)
        if self._conn.phase is Phase.PROVEN:
            self.in_use(now)
            self._look_again(now)

    def _not_accepted(self, key: ChainKey, life: MktRecord, now: float) -> None:
        """End a key that the chain has not any more, or does not accept now."""
        if life.ended or life in self._conn.retiring or life is self._conn.mkt_in_use:
            return
        if self._conn.rotation is not None and life is self._conn.rotation.new:
            rotation.give_up(self._state, self._conn)
        if life.state is MktState.INSTALLED:
            # It may be Current, if the peer asked for it: then it gets a little time.
            life.hard_at = now + self._conn.policy.grace
            self._conn.retiring.append(life)
            rotation.retire_at(self._state, self._conn, life, now)

    def _move(self, now: float) -> None:
        """Begin a rotation to the preferred key, unless it is in use or on its way."""
        preferred = self._preferred(self._state.wall(now), now)
        new = self.life_of(preferred) if preferred is not None else None
        if new is None or new is self._conn.mkt_in_use or new.state is not MktState.INSTALLED:
            return
        if new in self._conn.retiring:
            self._conn.retiring.remove(new)
            self._state.deadlines.cancel(Due.RETIRE, new)
            new.hard_at = inf
        if self._conn.rotation is not None:
            if self._conn.rotation.new is new or self._conn.rotation.rolling_back:
                return
            rotation.give_up(self._state, self._conn)
        self._state.note(
            self._conn.policy,
            EventName.REKEY_STARTED,
            send_id=self._conn.mkt_in_use.send_id,
            successor=new.send_id,
        )
        rotation.begin(self._state, self._conn, new, now)

    def _look_again(self, now: float) -> None:
        """Set when a key that failed may be tried again."""
        next_try = self.failed.next_try(now)
        if next_try is not None:
            self._state.deadlines.set(Due.SYNC, self._conn, next_try)

    def installed(self, life: MktRecord, now: float) -> None:
        """Go on: a key is on the socket, before connect() or in addition to others."""
        life.move(MktState.INSTALLED)
        self._state.note_installed(self._conn, life)
        if self._conn.phase is Phase.PROVEN:
            self.sync(now)

    def not_installed(self, life: MktRecord, failure: Failed, now: float) -> None:
        """Report a key that was refused; the session goes on without it, for now."""
        key = self.key_of(life)
        cause = f'{key} of keychain {self._chain().name} refused: {failure.text}'
        self._state.refuse(self._conn.policy, 'installing the key', cause, Reason.NOT_INSTALLED)
        life.end(MktState.FAILED)
        del self.held[life.name]
        next_try = self.failed.add(key, now, self._state.fraction())
        self._state.deadlines.set(Due.SYNC, self._conn, next_try)

    def clear_failures(self) -> None:
        """Forget failures after a load of the configuration: they may have been corrected."""
        self.failed.clear()
        self.given_up.clear()

    # --- called by the rotation -------------------------------------------------------------------

    def begins(self, moving: Rotation) -> None:
        """Have the counters read at once: the key may have been in use before."""
        self._state.command(Read(self._conn.pair))

    def grace(self, now: float) -> float:
        """Return the seconds that the configuration gives."""
        return self._conn.policy.grace

    def in_use(self, now: float) -> None:
        """Set when the key in use ends; also if that has changed."""
        life = self._conn.mkt_in_use
        life.hard_at = self._end(now)
        self._state.deadlines.set(Due.CEASE, self._conn, life.hard_at - CEASE_BEFORE)
        self._state.deadlines.set(Due.HARD, self._conn, life.hard_at)

    def _end(self, now: float) -> float:
        """Return when the key in use must not be sent any more, on the clock of `now`."""
        chain, grace = self._chain(), self._conn.policy.grace
        offset = self._state.wall(now) - now
        key = chain.find(self.key_of(self._conn.mkt_in_use))
        if key is None:
            noticed = self.revoked_at.setdefault(self._conn.mkt_in_use.name, now)
            follows = self._preferred(self._state.wall(now), now)
            return noticed + (CEASE_BEFORE if follows is None else grace)
        self.revoked_at.pop(self._conn.mkt_in_use.name, None)
        # A key that was accepted after its send-lifetime, from a late peer, gets the same time.
        over = max(key.send.end, self._conn.since + offset)
        if over == inf or key.send.end == inf:
            return inf
        if chain.preferred(over, {key.number, *self.failed.until}) is None:
            return key.send.end - offset
        return min(key.accept.end, over + grace) - offset

    def ceases(self, now: float) -> Explanation | None:
        """Return why the session must end with its key, shortly before that ends; None if it need
        not.
        """
        key = self.key_of(self._conn.mkt_in_use)
        follows = self._follows(self._conn.mkt_in_use.hard_at)
        if follows is None:
            return self._no_next(f'{key} ends, and no key follows it')
        running = self._conn.rotation
        if running and not running.successor_received and now - running.answered_at > CEASE_BEFORE:
            return self._no_next(f'{key} ends, and the peer does not use {follows}')
        return None

    def _no_next(self, why: str) -> Explanation:
        return Explanation.of(Reason.NO_NEXT_KEY, 'rekey', f'keychain {self._chain().name}: {why}')

    def _follows(self, when: float) -> ChainKey | None:
        found = self._preferred(self._state.wall(when), when)
        in_use = self.key_of(self._conn.mkt_in_use)
        return None if found is None or found.is_same_key(in_use) else found

    def expires(self, now: float) -> bool:
        """End the key in use; return False if its successor needs another moment."""
        self.sync(now)
        if self._conn.phase is Phase.PROVEN and now < self._conn.mkt_in_use.hard_at:
            # Its lifetime was extended, or the clock was set.
            return False
        follows = self._follows(now)
        new = self.life_of(follows) if follows is not None else None
        if new is None or self._conn.phase is not Phase.PROVEN:
            return True
        if new.state is MktState.NEGOTIATING and now < self._conn.mkt_in_use.hard_at + CEASE_BEFORE:
            self._state.deadlines.set(Due.HARD, self._conn, now + RETRY_REMOVE)
            return False
        if new.state is MktState.INSTALLED and self._conn.rotation is None:
            self._conn.rotation = Rotation(new, now)
        return True

    def superseded(self, old: MktRecord, finished: Rotation, now: float) -> None:
        """Note that another key is in use: the old one stays as long as the chain accepts it."""
        self._state.deadlines.set(Due.SYNC, self._conn, now)
        key = self.key_of(old)
        known = self._chain().find(key)
        expired = now >= old.hard_at
        if known is not None and known.accept.covers(self._state.wall(now)) and not expired:
            old.move(MktState.INSTALLED)
            old.hard_at = inf
            return
        if expired:
            self.given_up.add((key.send_id, key.recv_id))
        old.move(MktState.RETIRING)
        self._conn.retiring.append(old)
        rotation.retire_at(self._state, self._conn, old, now + OLD_KEY_LINGERS)

    def discarded(self, new: MktRecord, now: float) -> None:
        """Note that a successor failed; the session is back on the old key."""
        self.failed.add(self.key_of(new), now, self._state.fraction())
        self.in_use(now)
        self._look_again(now)

    def stalled(self, now: float) -> None:
        """Report that the peer hasn't followed in time, and give it unlimited time."""
        running = self._conn.rotation
        assert running is not None
        running.stalled = True
        self._state.command(Probe(self._conn.pair, on=False))
        chain, key = self._chain(), self.key_of(running.new)
        cause = f'the peer has not moved to {key} of keychain {chain.name}'
        if running.successor_received:
            cause = f'the peer sends under {key} of keychain {chain.name} but asks for another'
        self._state.warn(self._conn, Explanation.of(Reason.NOT_FOLLOWED, 'rekey', cause))

    def removed(self, life: MktRecord) -> None:
        """Note that a key is off the connection. If the chain has it again, it comes back."""
        self._state.deadlines.set(Due.SYNC, self._conn, AT_ONCE)
        self.held.pop(life.name, None)
        self.revoked_at.pop(life.name, None)


AT_ONCE = 0.0
"""A time that has passed on any clock."""
