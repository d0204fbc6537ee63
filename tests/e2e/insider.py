"""An authenticated peer without ExaBGP: every move of it is the test's.

It makes its IKE SA and asks for keys as a real one does, and then does what a real one would not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from itertools import count
from pathlib import Path

from gatekeeper.policy.sessions import SessionId
from ikev2 import Identity, Peer, PresharedKey
from ikev2.events import Event, IkeSaUp, RpSaFailed, RpSaNegotiated, RpSaRequest, Selector
from keymaterial import read_secret_file
from lab.impostors import IkeSpeaker, TcpKey
from tcpao.mkt import ALGORITHMS

SESSIONS = {
    'ipv4 unicast': SessionId('bgp', 'ipv4 unicast', ((1, 1),)),
    'ipv6 unicast': SessionId('bgp', 'ipv6 unicast', ((2, 1),)),
}
PATIENCE = 60.0
_KEYIDS = count(1)
"""Of all insiders: the ids of one before stay taken for its socket pairs."""


def preshared(path: Path) -> PresharedKey:
    """The key that a router's psk-file holds."""
    return PresharedKey.load(read_secret_file(path))


class Insider:
    """r1, scripted, in r1's namespace."""

    def __init__(self, psk: PresharedKey, source: str, target: str) -> None:
        self._source, self._target = source, target
        peer = Peer(
            name='r2',
            local_id=Identity.parse('fqdn', 'r1.lab'),
            remote_id=Identity.parse('fqdn', 'r2.lab'),
            credential=psk,
            remote_credential=psk,
            addresses=((ip_address(source), ip_address(target)),),
        )
        self._speaker = IkeSpeaker(peer)

    def connect(self) -> None:
        """Make an IKE SA."""
        self._speaker.connect()
        self._await(lambda event: isinstance(event, IkeSaUp))

    def ask_for_key(self, session: str, port: int, algorithm: str = 'hmac-sha-1-96') -> TcpKey:
        """Negotiate an MKT for a connection from `port`; it is on r2's listener then."""
        request = RpSaRequest(
            keyid=next(_KEYIDS),
            suites=(algorithm,),
            tcp_options=True,
            tsi=Selector(ip_address(self._source), port),
            tsr=Selector(ip_address(self._target), 179),
            session_id=SESSIONS[session].encode(),
            lifetime=600,
        )
        self._speaker.endpoint.request('r2', request, time.monotonic())
        answer = self._await(lambda event: isinstance(event, RpSaNegotiated | RpSaFailed))
        assert isinstance(answer, RpSaNegotiated), answer
        keys = answer.keys
        return TcpKey(ALGORITHMS[keys.suite], keys.send_id, keys.recv_id, keys.master_key.reveal())

    def _await(self, wanted: Callable[[Event], bool]) -> Event:
        for event in self._speaker.run(PATIENCE):
            if wanted(event):
                return event
        raise AssertionError('r2 did not answer')

    def close(self) -> None:
        """Go, without a word."""
        self._speaker.close()


@contextmanager
def insider(psk: PresharedKey, source: str, target: str) -> Iterator[Insider]:
    """A scripted r1 that has an IKE SA with r2; this thread must be in r1's namespace."""
    one = Insider(psk, source, target)
    try:
        one.connect()
        yield one
    finally:
        one.close()
