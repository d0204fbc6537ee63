"""Under which backend a module's tests run: the kernel's TCP-AO, where there is such a kernel, or
the packet process, on the host.
"""

from __future__ import annotations

import pytest

from tcpao.backend import Preference

KERNEL = pytest.param(Preference.KERNEL, id='kernel', marks=pytest.mark.kernel)
USERSPACE = pytest.param(Preference.USERSPACE, id='userspace', marks=pytest.mark.native)


def _under(*backends: object) -> pytest.MarkDecorator:
    return pytest.mark.parametrize('backend', backends, indirect=True, scope='module')


under_both = _under(KERNEL, USERSPACE)
under_userspace = _under(USERSPACE)
