"""An HTTP server for Prometheus, on separate threads, in the daemon's process.

Every user of the host may connect to it. The daemon's descriptors and threads that they can use are
limited, since without descriptors the daemon makes no connections.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from ipaddress import ip_address
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

MOST_AT_ONCE: Final = 4
"""Connections at a time; further ones are closed at once."""
READS_WITHIN: Final = 5.0
"""Seconds that a connection may stay silent."""


class MetricsError(ValueError):
    """Metrics can't be served; the message says why and what to try."""


def parse_endpoint(text: str) -> tuple[str, int]:
    """Return address and port of `127.0.0.1:9179` or `[::1]:9179`. Raises MetricsError."""
    address, colon, port = text.rpartition(':')
    bare = address.removeprefix('[').removesuffix(']')
    try:
        version = ip_address(bare).version
        number = int(port) if port.isascii() and port.isdecimal() else 0
        if not colon or not 0 < number < 65536 or (version == 6) != (address != bare):
            raise ValueError
    except ValueError:
        raise MetricsError(
            f'{text!r} is no address and port; expected 127.0.0.1:9179 or [::1]:9179'
        ) from None
    return bare, number


def serve(endpoint: tuple[str, int], collector: Any) -> Callable[[], None]:
    """Serve the collector's metrics; return a function that ends that. Raises MetricsError."""
    try:
        from prometheus_client import CollectorRegistry, make_wsgi_app
    except ImportError:
        raise MetricsError(
            'prometheus-client is not installed; pip install exabgp-gatekeeper[metrics]'
        ) from None
    registry = CollectorRegistry()
    # Registering must not collect: there is no gatekeeper to ask yet.
    registry.register(_Described(collector))
    address, port = endpoint
    try:
        kind = _ServerOf6 if ':' in address else _Server
        server = make_server(address, port, make_wsgi_app(registry), kind, _Handler)
    except OSError as error:
        raise MetricsError(
            f'cannot listen for Prometheus on {address} port {port}: {error.strerror}; '
            f'choose another address or port'
        ) from None
    threading.Thread(target=server.serve_forever, name='metrics', daemon=True).start()

    def stop() -> None:
        server.shutdown()
        server.server_close()

    return stop


class _Handler(WSGIRequestHandler):
    """A request handler without log lines."""

    timeout = READS_WITHIN

    def log_message(self, *_: object) -> None:
        """Do nothing: requests need no log."""


class _Server(ThreadingMixIn, WSGIServer):
    """A server with a thread for each connection, and no more than `MOST_AT_ONCE`."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *arguments: Any) -> None:
        self._free = threading.BoundedSemaphore(MOST_AT_ONCE)
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection, if there is room for it."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection, on its own thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, *_: object) -> None:
        """Do nothing: clients that hang up early would fill the log."""


class _ServerOf6(_Server):
    address_family = socket.AF_INET6


class _Described:
    """A collector that isn't called when it is registered."""

    def __init__(self, collector: Any) -> None:
        self.collect = collector.collect

    def describe(self) -> list[Any]:
        """Return nothing: names are known only with values."""
        return []
