"""Two routers that start from nothing but what `gatekeeper init` wrote have their sessions up."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.backends import under_userspace
from tests.e2e.configurations import FAMILIES, NUMBERS
from tests.e2e.conftest import Routers
from tests.e2e.pair import R1, R2

pytestmark = under_userspace


@pytest.mark.parametrize('credential', ['psk', 'raw-key'])
def test_sessions_come_up_from_what_init_wrote(
    credential: str, routers: Routers, tmp_path: Path
) -> None:
    r1, r2 = routers.r1, routers.r2
    families = [word for family in FAMILIES for word in ('--family', family)]
    options = {
        'credential': credential,
        'local-name': r1.name,
        'peer-name': r2.name,
        'local-address': R1,
        'peer-address': R2,
        'local-as': NUMBERS[r1.name],
        'peer-as': NUMBERS[r2.name],
    }
    command = [sys.executable, '-m', 'gatekeeper', 'init', str(tmp_path), *families]
    command += [f'--{name}={value}' for name, value in options.items()]
    subprocess.run(command, check=True, capture_output=True)
    try:
        for router in (r2, r1):
            for file in (tmp_path / router.name).iterdir():
                shutil.copy(file, router.home)
            router.configure((tmp_path / router.name / 'exabgp.conf').read_text())
            router.start()
        for router in (r1, r2):
            router.await_established(*FAMILIES)
            assert {row['state'] for row in router.show()} == {'in use'}
    finally:
        routers.stop()
