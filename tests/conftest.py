"""Options and fixtures of every test.

Tests marked `kernel` or `netns` run where the kernel has TCP-AO, see lab.kernel_tests.
"""

from __future__ import annotations

import os
from typing import Any

import hypothesis

pytest_plugins = ['lab.kernel_tests']

# The guest is an order of magnitude slower than the host, a machine may be busy, and no test
# asserts speed: neither that of a test nor that with which its examples are made.
ANY_SPEED: Any = {
    'deadline': None,
    'suppress_health_check': [hypothesis.HealthCheck.too_slow],
}
hypothesis.settings.register_profile('project', **ANY_SPEED)
# CI judges a change, so it runs the same examples each time; new ones are looked for elsewhere.
hypothesis.settings.register_profile('ci', **ANY_SPEED, derandomize=True)
hypothesis.settings.register_profile('long', **ANY_SPEED, max_examples=10_000)
hypothesis.settings.load_profile('ci' if 'CI' in os.environ else 'project')
