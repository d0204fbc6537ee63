"""Lifetimes by volume: a key is replaced when it has protected most of what it may.

No backend tells of a count that is reached, so a connection with such a limit is read, the more
often the sooner it will be reached (decision 22). A connection without one is not read.
"""

from __future__ import annotations

from gatekeeper.state.connection import Connection, Counted, Phase
from gatekeeper.state.deadlines import Due
from gatekeeper.state.limits import CEASE_BEFORE, SOFT_VOLUME, SPENT_FOR, VOLUME_READS
from gatekeeper.state.mkt_record import VolumeStage
from gatekeeper.state.store import Store
from tcpao.installer import KeyState, Read


def watch(state: Store, conn: Connection, now: float) -> None:
    """Begin to read a connection whose keys have a volume; a second call changes nothing."""
    if conn.policy.volume is None:
        state.deadlines.cancel(Due.VOLUME, conn)
    elif conn.phase is Phase.PROVEN and not state.deadlines.is_set(Due.VOLUME, conn):
        state.deadlines.set(Due.VOLUME, conn, now + VOLUME_READS[0])


def look(state: Store, conn: Connection, now: float) -> None:
    """Ask for the counts (Due.VOLUME); the next look is soon if there is no answer."""
    if conn.phase is Phase.PROVEN:
        state.command(Read(conn.pair))
        state.deadlines.set(Due.VOLUME, conn, now + VOLUME_READS[1])


def read(state: Store, conn: Connection, seen: KeyState, now: float) -> None:
    """Compare what the key in use has protected with its volume."""
    before, conn.counted = conn.counted, Counted(seen.traffic, now)
    limits, life = conn.policy.volume, conn.mkt_in_use
    if limits is None:
        return
    share = limits.share(seen.traffic.since(life.counted_from))
    soft = SOFT_VOLUME[0 if conn.began_last else 1]
    if share >= 1.0 and life.volume_stage is not VolumeStage.SPENT:
        life.volume_stage = VolumeStage.SPENT
        _end_soon(state, conn, now)
    elif share >= soft and life.volume_stage is VolumeStage.BELOW_SOFT:
        life.volume_stage = VolumeStage.SOFT
        state.deadlines.set(Due.REKEY, conn, now)
    grown = limits.share(seen.traffic.since(before.traffic))
    left = (soft if share < soft else 1.0) - share
    shortest, longest = VOLUME_READS
    # Half of the time in which the rest goes at the rate of the last readings.
    elapsed = now - max(before.at, conn.since)
    wait = left * elapsed / (2.0 * grown) if grown > 0.0 else longest
    state.deadlines.set(Due.VOLUME, conn, now + min(longest, max(shortest, wait)))


def _end_soon(state: Store, conn: Connection, now: float) -> None:
    """Bring the hard lifetime forward, and request a successor unless one is on its way."""
    life = conn.mkt_in_use
    state.deadlines.set(Due.REKEY, conn, now)
    if life.hard_at <= now + SPENT_FOR:
        return
    life.hard_at = now + SPENT_FOR
    state.deadlines.set(Due.CEASE, conn, life.hard_at - CEASE_BEFORE)
    state.deadlines.set(Due.HARD, conn, life.hard_at)
