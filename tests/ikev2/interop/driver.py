"""An endpoint of ours on real sockets in a network namespace, driven by the test's own thread."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from ikev2.endpoint import Endpoint
from ikev2.events import Event, IkeMessage
from ikev2.limits import Limits
from ikev2.peer import Peer
from ikev2.snapshot import IkeSaSnapshot
from ikev2.udp import UdpSockets
from tests.ikev2.interop.wire import inside

_E = TypeVar('_E')

PATIENCE = 30.0
"""Seconds, for what comes in a fraction of one if no process has to wait for a processor."""


class Driver:
    """Our end of one row, with one peer. What came of it is in `events`."""

    def __init__(self, namespace: str, peer: Peer, limits: Limits | None = None) -> None:
        with inside(namespace):
            self.udp = UdpSockets()
        self.peer = peer.name
        self.endpoint = Endpoint(random=os.urandom, has_mkts=lambda name: False, limits=limits)
        self.endpoint.set_peer(peer, self.now())
        self.events: list[Event] = []

    @staticmethod
    def now() -> float:
        """The clock."""
        return time.monotonic()

    def all(self, kind: type[_E]) -> list[_E]:
        """The events of one class so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def messages(self, exchange: str) -> list[str]:
        """Return the payloads of the messages of an exchange, in order."""
        return [message.detail for message in self.all(IkeMessage) if message.exchange == exchange]

    def different_messages(self, exchange: str) -> list[str]:
        """Without those that were sent again, since an end was slow."""
        return list(dict.fromkeys(self.messages(exchange)))

    @property
    def sas(self) -> tuple[IkeSaSnapshot, ...]:
        """Our IKE SAs."""
        return self.endpoint.snapshot().peer(self.peer).ike_sas

    def only_sa(self) -> IkeSaSnapshot:
        """Our IKE SA, where there is just one."""
        (sa,) = self.sas
        return sa

    def run_until(
        self, done: Callable[[], bool], seconds: float = PATIENCE, also: Sequence[int] = ()
    ) -> bool:
        """Serve the sockets and timers until `done` or the time is over; whether it was done.

        `done` is looked at when a datagram, a timer or one of the descriptors in `also` wakes us.
        """
        poll = select.poll()
        for descriptor in (*self.udp.filenos(), *also):
            poll.register(descriptor, select.POLLIN)
        end = self.now() + seconds
        while True:
            self._flush()
            if done():
                return True
            timer = self.endpoint.next_timer()
            wake = end if timer is None else min(end, timer)
            poll.poll(max(0.0, wake - self.now()) * 1000)
            for datagram in self.udp.receive():
                self.endpoint.receive_datagram(datagram, self.now())
            self.endpoint.handle_timer(self.now())
            if self.now() >= end:
                self._flush()
                return done()

    def run_until_exit(self, process: subprocess.Popen[bytes], seconds: float = PATIENCE) -> bool:
        """Serve until a process has ended; whether it has."""
        descriptor = os.pidfd_open(process.pid)
        try:
            return self.run_until(lambda: process.poll() is not None, seconds, [descriptor])
        finally:
            os.close(descriptor)

    def wait_for(
        self, kind: type[_E], seconds: float = PATIENCE, more: Callable[[], str] = str
    ) -> _E:
        """The next event of a class; a failure that tells the story, and `more`, if none comes."""
        before = len(self.all(kind))
        came = self.run_until(lambda: len(self.all(kind)) > before, seconds)
        story = '\n'.join(map(str, self.events))
        assert came, f'no {kind.__name__}:\n{story}\n{more()}'
        return self.all(kind)[before]

    def half_open(self) -> None:
        """Send IKE_SA_INIT and fall silent."""
        self.endpoint.connect(self.peer, self.now())
        self._flush()
        self.udp.close()

    def proves_alive(self) -> bool:
        """The peer answers a request of ours over the IKE SA."""
        self._flush()
        answers = len(self.messages('INFORMATIONAL'))
        self.endpoint.check_liveness(self.peer, self.now())
        return self.run_until(lambda: len(self.messages('INFORMATIONAL')) >= answers + 2)

    def close(self) -> None:
        """Delete what is up, and close the sockets."""
        self.endpoint.close(self.now())
        self._flush()
        self.udp.close()

    def _flush(self) -> None:
        while (event := self.endpoint.next_event()) is not None:
            self.events.append(event)
        for datagram in self.endpoint.datagrams_to_send():
            self.udp.send(datagram)
