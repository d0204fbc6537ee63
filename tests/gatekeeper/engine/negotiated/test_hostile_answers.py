"""A peer with a good credential answers our requests as suits it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ikev2.constants import ExchangeType, NotifyType
from ikev2.sa.ike_sa import IkeSa
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import NotifyPayload
from tests.gatekeeper.world import R2, World, open_both, two_routers


def test_opening_goes_on_when_undo_is_unanswered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer grants a key and says beside that it is busy, which makes the request fail and a
    DELETE follow. It left that unanswered, and the repeated request had the same KeyID: the
    gatekeeper died of it, and with it the sessions of all peers."""
    world = World()
    r1, _ = two_routers(world)
    world.run(1)
    original, hostile = IkeSa.answer, True

    def answer(self: IkeSa, payloads: Sequence[Payload], now: float) -> None:
        asked = self._request[0].exchange_type if self._request else 0
        if asked == ExchangeType.CREATE_CHILD_SA and hostile:
            payloads = [*payloads, NotifyPayload(NotifyType.TEMPORARY_FAILURE)]
        original(self, payloads, now)

    monkeypatch.setattr(IkeSa, 'answer', answer)
    world.lose = lambda datagram: (
        hostile and datagram.data[18] == ExchangeType.INFORMATIONAL and datagram.local == R2
    )
    open_both(r1)
    world.run(10)
    assert not r1.sessions
    hostile = False
    world.run(30)
    open_both(r1)
    world.run(10)
    assert len(r1.sessions) == 2
