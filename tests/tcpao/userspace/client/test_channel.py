"""The daemon's end of a channel to the packet process."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from tcpao.userspace.client.channel import Channel, ChannelError, both_ends
from tcpao.userspace.protocol.messages import Stop

PATIENCE = 30.0


def test_process_is_not_killed_when_the_daemon_closes() -> None:
    """The process removes its rules then, while a question of another thread may still wait."""
    kills: list[None] = []
    refused: list[str] = []
    ours, theirs = both_ends()
    channel = Channel(ours, lambda: kills.append(None))

    def ask() -> None:
        try:
            channel.ask(Stop())
        except ChannelError as error:
            refused.append(error.text)

    with closing(theirs):
        asking = threading.Thread(target=ask)
        asking.start()
        assert theirs.recv(1000)
        channel.close('it was stopped')
        asking.join(PATIENCE)
    assert refused == ['it was stopped']
    assert kills == []


def test_process_is_killed_when_it_closes_its_end() -> None:
    kills: list[None] = []
    ours, theirs = both_ends()
    channel = Channel(ours, lambda: kills.append(None))
    theirs.close()
    with pytest.raises(ChannelError, match='the packet process'):
        channel.ask(Stop())
    assert kills == [None]
