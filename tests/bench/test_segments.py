"""The benchmark of segments runs."""

from __future__ import annotations

import argparse

from bench import segments


def test_benchmark_of_segments_runs() -> None:
    parser = argparse.ArgumentParser()
    segments.options(parser)
    found = segments.run(parser.parse_args(['--rounds', '1', '--calls', '1']))
    assert {cost['version'] for cost in found} == {4, 6}
    assert all(cost['mac'] > 0 for cost in found)
