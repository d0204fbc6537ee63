"""The fuzz target over its corpus, and for a bounded time with atheris, guided by coverage."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.datagram import CORPUS, KINDS, Target

ROOT = Path(__file__).parents[2]
SECONDS = int(os.environ.get('FUZZ_SECONDS', '20'))
# CI judges a change; untried inputs are looked for elsewhere (see tests/conftest.py).
SEED = ('-seed=1',) if 'CI' in os.environ else ()


@pytest.mark.parametrize('name', sorted(path.name for path in CORPUS.iterdir()))
def test_corpus_input_does_no_harm(name: str) -> None:
    Target().run((CORPUS / name).read_bytes())


def test_corpus_has_every_kind_of_input() -> None:
    assert {path.read_bytes()[0] for path in CORPUS.iterdir()} == set(range(KINDS))


@pytest.mark.timeout(SECONDS + 100)
def test_coverage_guided_fuzzing_finds_nothing_in_bounded_time(tmp_path: Path) -> None:
    """Without atheris this fails: a check that didn't run hasn't passed."""
    found = tmp_path / 'found'
    found.mkdir()
    done = subprocess.run(
        [
            *(sys.executable, '-m', 'tests.fuzz.datagram', str(found), str(CORPUS)),
            *(f'-max_total_time={SECONDS}', '-max_len=4096', '-print_final_stats=1'),
            *('-timeout=10', f'-artifact_prefix={tmp_path}/', *SEED),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS + 90,
        check=False,
    )
    assert 'No module named' not in done.stderr, 'atheris is missing: pip install .[test]'
    assert done.returncode == 0, f'{done.stdout[-3000:]}{done.stderr[-6000:]}'
    executed = re.search(r'stat::number_of_executed_units:\s+(\d+)', done.stderr)
    covered = re.findall(r'cov: (\d+)', done.stderr)
    assert executed, done.stderr[-2000:]
    assert int(executed[1]) > len(list(CORPUS.iterdir()))
    assert int(covered[-1]) > 500, 'the engine is not instrumented'
    report = ROOT / 'build' / 'fuzz' / 'datagram.json'
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(
        json.dumps(
            {
                'executions': int(executed[1]),
                'seconds': SECONDS,
                'edges': int(covered[-1]),
                'found': len(list(found.iterdir())),
                'crashes': 0,
            },
            indent=2,
        )
    )
