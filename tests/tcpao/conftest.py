"""The benches, as fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest

from tcpao.kernel.installer import why_unsupported
from tcpao.userspace.client.backend import UserspaceBackend
from tcpao.userspace.rules.interface import Kind
from tests.tcpao.benches import Bench, KernelBench, MemoryBench, UserspaceBench, namespace

NO_KERNEL = (
    'this kernel has no TCP-AO ({reason}): run the kernel tests with '
    '`python -m lab.tcpao_kernel run -- pytest -m kernel`, or leave them out with -m "not kernel"'
)


@pytest.fixture
def kernel_namespace() -> Iterator[None]:
    """A fresh network namespace on a kernel with TCP-AO; fails where there is none."""
    reason = why_unsupported('hmac-sha-1-96')
    if reason is not None:
        pytest.fail(NO_KERNEL.format(reason=reason))
    with namespace():
        yield


@pytest.fixture
def own_namespace() -> Iterator[None]:
    """A fresh network namespace on whatever kernel this is."""
    with namespace():
        yield


@cache
def rule_kinds() -> tuple[Kind, ...]:
    """The ways to make rules that work here, found once: to try them all takes half a second."""
    with namespace(), UserspaceBackend() as backend:
        return (Kind(backend.ready.rules),)


@pytest.fixture(
    params=[
        pytest.param(('memory', 4), id='memory-ipv4'),
        pytest.param(('memory', 6), id='memory-ipv6'),
        pytest.param(('kernel', 4), id='kernel-ipv4', marks=pytest.mark.kernel),
        pytest.param(('kernel', 6), id='kernel-ipv6', marks=pytest.mark.kernel),
        pytest.param(('userspace', 4), id='userspace-ipv4', marks=pytest.mark.native),
        pytest.param(('userspace', 6), id='userspace-ipv6', marks=pytest.mark.native),
        pytest.param(('userspace', 4), id='userspace-guest-ipv4', marks=pytest.mark.kernel),
        pytest.param(('userspace', 6), id='userspace-guest-ipv6', marks=pytest.mark.kernel),
    ]
)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Every backend, over both families."""
    backend, version = request.param
    if backend == 'memory':
        yield MemoryBench(version)
        return
    if backend == 'kernel':
        request.getfixturevalue('kernel_namespace')
        bench = KernelBench(version)
    else:
        request.getfixturevalue('own_namespace')
        bench = UserspaceBench(version, rule_kinds())
    yield bench
    bench.close()
