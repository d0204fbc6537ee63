"""The benches, as fixtures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tcpao.linux import why_unsupported
from tests.tcpao.benches import Bench, KernelBench, MemoryBench, namespace

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


@pytest.fixture(
    params=[
        pytest.param(('memory', 4), id='memory-ipv4'),
        pytest.param(('memory', 6), id='memory-ipv6'),
        pytest.param(('kernel', 4), id='kernel-ipv4', marks=pytest.mark.kernel),
        pytest.param(('kernel', 6), id='kernel-ipv6', marks=pytest.mark.kernel),
    ]
)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Every backend, over both families."""
    backend, version = request.param
    if backend == 'memory':
        yield MemoryBench(version)
        return
    request.getfixturevalue('kernel_namespace')
    kernel = KernelBench(version)
    yield kernel
    kernel.close()
