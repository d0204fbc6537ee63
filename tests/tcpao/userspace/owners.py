"""The sockets of a host, as a kernel would tell of them: set by the test."""

from __future__ import annotations

from collections.abc import Set

from tcpao.mkt import SocketPair


class Sockets:
    """One socket pair's owner, and one listening socket; None where there is none."""

    def __init__(self, cookie: int | None) -> None:
        self.owner = cookie
        self.listening = cookie

    def has_pair(self, cookie: int, pair: SocketPair, interface: int) -> bool:
        return self.owner == cookie

    def is_free_of_others(self, cookie: int, pair: SocketPair, interface: int) -> bool:
        return self.owner in (None, cookie)

    def receives_syn(self, cookies: Set[int], pair: SocketPair, interface: int) -> bool:
        return self.listening in cookies
