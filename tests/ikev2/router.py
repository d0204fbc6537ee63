"""A user of an endpoint for the stateful machine: keeps MKTs as a gatekeeper does, but for TCP."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ikev2.events import (
    DeleteAnswered,
    Event,
    IkeSaDown,
    IkeSaUp,
    InitialContact,
    KeysDeleted,
    RpSaFailed,
    RpSaKeys,
    RpSaNegotiated,
    RpSaPrepared,
    RpSaRequested,
)
from tests.ikev2.bench import Node, rp_request

PEER = {'a': 'b', 'b': 'a'}


@dataclass
class Router(Node):
    """An endpoint and a user that keeps MKTs as a gatekeeper does, but for TCP."""

    restarted: bool = False
    held: dict[int, RpSaKeys] = field(default_factory=dict)
    """By our SendID."""
    every: list[RpSaKeys] = field(default_factory=list)
    """All that it ever held."""
    asked: dict[int, int] = field(default_factory=dict)
    """SendIDs of the requests under way, by their numbers."""
    overtaken: set[int] = field(default_factory=set)
    """RecvIDs whose DELETE, over another IKE SA, came before their request: nothing orders the two,
    and such an MKT ends for want of a connection (decision 13)."""
    deleting: dict[int, int] = field(default_factory=dict)
    """SendIDs of the DELETEs under way, by their numbers."""
    undeleted: set[int] = field(default_factory=set)
    """Requests without an answer."""
    ended: Counter[int] = field(default_factory=Counter)
    up: bool = False
    slow: bool = False
    """Thinks before it answers."""
    waiting: list[Event] = field(default_factory=list)

    @property
    def peer(self) -> str:
        return PEER[self.name]

    def only_here(self, there: Router) -> list[int]:
        """SendIDs of the MKTs that the other end doesn't have."""
        others = {mirrored(keys) for keys in there.held.values()}
        return [
            send_id
            for send_id, keys in self.held.items()
            if (keys.send_id, keys.recv_id, *secret(keys)) not in others
        ]

    def ask(self, now: float, rekey: int | None = None) -> int:
        keyid = self.take_id()
        number = self.endpoint.request(self.peer, rp_request(keyid, rekey=rekey), now)
        self.asked[number] = keyid
        return number

    def take_id(self) -> int:
        keyid, self.next_keyid = self.next_keyid, self.next_keyid % 255 + 1
        return keyid

    def delete(self, send_id: int, now: float) -> None:
        self.held.pop(send_id, None)
        self.deleting[self.endpoint.delete(self.peer, (send_id,), now)] = send_id

    def delete_again(self, now: float) -> None:
        """Send requests without an answer again: with a new IKE SA, and after a while with one that
        was up beside the one which carried it."""
        undeleted, self.undeleted = self.undeleted, set()
        for send_id in undeleted:
            self.delete(send_id, now)

    def collect(self, now: float) -> None:
        while (event := self.endpoint.next_event()) is not None:
            self.events.append(event)
            if self.slow and isinstance(event, RpSaRequested | RpSaPrepared | KeysDeleted):
                self.waiting.append(event)
            else:
                self.take(event, now)
        self.mkts = not self.restarted or bool(self.held)

    def think(self, now: float) -> None:
        """Do what was put off."""
        waiting, self.waiting = self.waiting, []
        for event in waiting:
            self.take(event, now)

    def take(self, event: Event, now: float) -> None:
        match event:
            case RpSaRequested() | RpSaPrepared():
                self.serve(event, now)
            case RpSaNegotiated(exchange=exchange, keys=keys):
                self.ended[exchange] += 1
                del self.asked[exchange]
                self.hold(keys)
            case RpSaFailed(exchange=exchange):
                self.ended[exchange] += 1
                del self.asked[exchange]
            case KeysDeleted(token=token, recv_ids=recv_ids):
                gone = [i for i, keys in self.held.items() if keys.recv_id in recv_ids]
                self.overtaken |= {*recv_ids} - {self.held[i].recv_id for i in gone}
                for send_id in gone:
                    del self.held[send_id]
                self.endpoint.answer_delete(token, gone, now)
            case DeleteAnswered(exchange=exchange, answered=answered):
                self.ended[exchange] += 1
                send_id = self.deleting.pop(exchange)
                if not answered:
                    self.undeleted.add(send_id)
            case InitialContact(before=before):
                self.held = {
                    i: keys for i, keys in self.held.items() if keys.authenticated >= before
                }
                self.undeleted.clear()
            case IkeSaUp():
                self.up = True
                self.delete_again(now)
            case IkeSaDown():
                self.up = False

    def serve(self, event: RpSaRequested | RpSaPrepared, now: float) -> None:
        keys: RpSaKeys | None
        if isinstance(event, RpSaPrepared):
            keys = event.keys
        else:
            suite, options = event.offer.proposals[0]
            keys = self.endpoint.prepare(event.token, suite, options, self.take_id(), 1800, now)
        # Without keys, RpSaPrepared or RpSaAbandoned follows.
        if keys is not None and self.endpoint.answer(event.token, now):
            self.hold(keys)

    def hold(self, keys: RpSaKeys) -> None:
        self.held[keys.send_id] = keys
        self.every.append(keys)


def secret(keys: RpSaKeys) -> tuple[str, bytes]:
    return keys.suite, keys.master_key.reveal()


def mirrored(keys: RpSaKeys) -> tuple[int, int, str, bytes]:
    """Return the key as the other end holds it."""
    return keys.recv_id, keys.send_id, *secret(keys)
