"""What holds for every test.

Tests marked `kernel` or `netns` run where the kernel has TCP-AO, see lab.kernel_tests.
"""

from __future__ import annotations

import os

import hypothesis

pytest_plugins = ['lab.kernel_tests']

# The guest is an order of magnitude slower than the host, and no test asserts speed.
hypothesis.settings.register_profile('project', deadline=None)
# CI judges a change, so it runs the same examples each time; new ones are looked for elsewhere.
hypothesis.settings.register_profile('ci', deadline=None, derandomize=True)
hypothesis.settings.register_profile('long', deadline=None, max_examples=10_000)
hypothesis.settings.load_profile('ci' if 'CI' in os.environ else 'project')
