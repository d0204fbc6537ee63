"""The installer over sockets in memory: the gatekeeper's life-cycle in milliseconds.

The commands are carried out by the very code that drives the kernel (`SocketInstaller`); only the
sockets and the network are simulated, in `memory_network`. It passes the conformance test.

    network = Network()
    r2 = MemoryInstaller(network)
    listener = network.listen(ip_address('10.0.0.2'), 179)
    r2.add_listener(listener)
    r2.submit(Install(mkt, Where.LISTENER))
    ...
    client = network.socket(pair)
    r1.add_connection(pair, client)
    r1.submit(Install(mkt.reversed, Where.CONNECTION))
    client.connect()
    child = listener.accept()
    network.advance(now + 1.0)
"""

from __future__ import annotations

from collections import deque

from tcpao.installer import Capabilities, Cause, Command, Failed
from tcpao.socket_installer import SocketInstaller
from tests.doubles.memory_network import MemorySocket, Network

__all__ = ['MemoryInstaller', 'MemorySocket', 'Network']


class MemoryInstaller(SocketInstaller[MemorySocket]):
    """A backend over a Network; one per thread that it stands for, as with the kernel's."""

    def __init__(self, network: Network) -> None:
        super().__init__(wrap=lambda socket: socket)
        self.network = network
        self.submitted: list[Command] = []
        """Every command ever given, for tests that look at their order."""
        self._refusals: list[tuple[type, Cause, str]] = []
        self._held: deque[Command] | None = None

    def capabilities(self) -> Capabilities:
        """Return the simulated kernel's capabilities."""
        return Capabilities(
            backend='memory',
            algorithms=self.network.algorithms,
            matches_ports=False,
            counts_sent=False,
        )

    def submit(self, command: Command) -> None:
        """Carry a command out as every installer does, unless it is held or to be refused."""
        self.submitted.append(command)
        if self._held is not None:
            self._held.append(command)
            return
        self._submit_now(command)

    def refuse_next(self, kind: type, cause: Cause, text: str = 'the test wants it so') -> None:
        """Let the next command of this type fail without being carried out."""
        self._refusals.append((kind, cause, text))

    def hold(self) -> None:
        """Commands wait from now on, as while ExaBGP's reactor is busy."""
        if self._held is None:
            self._held = deque()

    def release(self) -> None:
        """Carry out what waits, in order, and go on as usual."""
        held, self._held = self._held or deque(), None
        for command in held:
            self._submit_now(command)

    def _submit_now(self, command: Command) -> None:
        for refusal in self._refusals:
            kind, cause, text = refusal
            if isinstance(command, kind):
                self._refusals.remove(refusal)
                self._events.append(Failed(command, cause, text))
                return
        super().submit(command)
