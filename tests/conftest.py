"""What holds for every test.

Tests marked `kernel` or `netns` run where the kernel has TCP-AO, see lab.kernel_tests.
"""

from __future__ import annotations

import hypothesis

pytest_plugins = ['lab.kernel_tests']

# The guest is an order of magnitude slower than the host, and no test asserts speed.
hypothesis.settings.register_profile('project', deadline=None)
hypothesis.settings.load_profile('project')
