"""An HTTP server for Prometheus, on a thread of its own, in the daemon's process."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any


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
    """Serve what the collector has; return what ends that. Raises MetricsError."""
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError:
        raise MetricsError(
            'prometheus-client is not installed; pip install exabgp-gatekeeper[metrics]'
        ) from None
    registry = CollectorRegistry()
    # Asking for what there is, before there is a gatekeeper to ask, is not wanted.
    registry.register(_Described(collector))
    address, port = endpoint
    try:
        server, _ = start_http_server(port, addr=address, registry=registry)
    except OSError as error:
        raise MetricsError(
            f'cannot listen for Prometheus on {address} port {port}: {error.strerror}; '
            f'choose another address or port'
        ) from None

    def stop() -> None:
        server.shutdown()
        server.server_close()

    return stop


class _Described:
    """A collector that isn't asked when it is registered."""

    def __init__(self, collector: Any) -> None:
        self.collect = collector.collect

    def describe(self) -> list[Any]:
        """Return nothing: names are known when values are."""
        return []
