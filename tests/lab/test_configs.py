"""Every configuration in configs/ is one that a daemon takes, with keys of `lab.keys`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lab.keys import make_keys

PROJECT = Path(__file__).resolve().parents[2]
CONFIGURATIONS = sorted((PROJECT / 'configs').glob('*/*.conf'))


@pytest.mark.parametrize('path', CONFIGURATIONS, ids=lambda p: f'{p.parent.name}/{p.name}')
def test_configuration_loads(path: Path, tmp_path: Path) -> None:
    make_keys(tmp_path / 'all')
    # As its topology has it in the router.
    (tmp_path / 'all' / path.stem).rename(tmp_path / 'keys')
    shutil.copy(path, tmp_path)
    done = subprocess.run(
        [sys.executable, '-m', 'plugin.launcher', 'validate', '-n', str(tmp_path / path.name)],
        env={**os.environ, 'PYTHONPATH': str(PROJECT)},
        cwd='/',
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
