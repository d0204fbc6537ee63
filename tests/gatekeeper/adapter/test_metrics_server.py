"""The HTTP server for Prometheus."""

from __future__ import annotations

import socket
import threading
import urllib.request
from contextlib import ExitStack
from functools import partial

import pytest

from gatekeeper.adapter.metrics_server import (
    MOST_AT_ONCE,
    MetricsError,
    parse_endpoint,
    serve,
)
from gatekeeper.reporting.metrics import Metrics


@pytest.mark.parametrize(
    ('text', 'endpoint'),
    [('127.0.0.1:9179', ('127.0.0.1', 9179)), ('[::1]:1', ('::1', 1))],
)
def test_endpoint_is_an_address_and_a_port(text: str, endpoint: tuple[str, int]) -> None:
    assert parse_endpoint(text) == endpoint


@pytest.mark.parametrize(
    'text',
    ['', '9179', '127.0.0.1', '127.0.0.1:', '127.0.0.1:0', '127.0.0.1:65536', '::1:9179',
     '[127.0.0.1]:9179', 'localhost:9179', '127.0.0.1:９'],  # noqa: RUF001
)  # fmt: skip
def test_endpoint_is_refused_when_it_is_none(text: str) -> None:
    with pytest.raises(MetricsError, match=r'expected 127\.0\.0\.1:9179'):
        parse_endpoint(text)


def free_port() -> int:
    with socket.create_server(('127.0.0.1', 0)) as sock:
        return int(sock.getsockname()[1])


def test_served_metrics_are_read_over_http_until_stopped() -> None:
    port = free_port()
    stop = serve(('127.0.0.1', port), Metrics(list, dict, lambda: 0.0))
    try:
        with urllib.request.urlopen(f'http://127.0.0.1:{port}/metrics', timeout=5) as answer:
            assert b'gatekeeper_up 1.0' in answer.read()
    finally:
        stop()
    with pytest.raises(OSError, match='refused'):
        urllib.request.urlopen(f'http://127.0.0.1:{port}/metrics', timeout=5)


def test_endpoint_names_a_taken_port() -> None:
    with socket.create_server(('127.0.0.1', 0)) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(MetricsError, match=f'port {port}.*in use'):
            serve(('127.0.0.1', port), Metrics(list, dict, lambda: 0.0))


def test_idle_connections_are_few_when_many_connect() -> None:
    port = free_port()
    stop = serve(('127.0.0.1', port), Metrics(list, dict, lambda: 0.0))
    with ExitStack() as held:
        held.callback(stop)
        threads = threading.active_count()
        silent = [
            held.enter_context(socket.create_connection(('127.0.0.1', port), 5))
            for _ in range(10 * MOST_AT_ONCE)
        ]
        for one in silent[MOST_AT_ONCE:]:
            assert one.recv(1) == b'', 'hung up on'
        assert threading.active_count() - threads <= MOST_AT_ONCE


def test_metrics_are_served_when_idle_connections_have_ended() -> None:
    port = free_port()
    stop = serve(('::1', port), Metrics(list, dict, lambda: 0.0))
    with ExitStack() as held:
        held.callback(stop)
        for _ in range(2 * MOST_AT_ONCE):
            with socket.create_connection(('::1', port), 5) as one:
                one.sendall(b'GET /metrics HTTP/1.0\r\n\r\n')
                answer = b''.join(iter(partial(one.recv, 65536), b''))
            assert b'gatekeeper_up 1.0' in answer
