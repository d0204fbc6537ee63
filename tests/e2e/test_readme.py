"""The README, word for word, at both ends: its files, keys and commands, and what they print."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from lab.unprivileged import daemon_environment
from tests.e2e.backends import under_userspace
from tests.e2e.conftest import Routers
from tests.e2e.readme import Step, fits, steps
from tests.e2e.router import PATIENCE, Router, within

pytestmark = under_userspace
FOLDER = '/etc/exabgp'
KEY = 'r1-r2.psk'


class Readers:
    """Who does what the README says."""

    def __init__(self, routers: Routers) -> None:
        self.routers = {'r1': routers.r1, 'r2': routers.r2}
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.printed = ''
        self.retry: tuple[Router, str] | None = None

    def follow(self, step: Step) -> None:
        """Do one step."""
        if step.mark == 'prints':
            self._compare(step.text)
            return
        for name in step.routers:
            router = self.routers[name]
            self.retry = None
            if step.file is not None:
                (router.node.proc / 'root' / step.file.lstrip('/')).write_text(step.text)
            elif step.mark.startswith('starts'):
                self._start(router, step.text)
            else:
                if 'when it is up' in step.mark:
                    self.retry = router, step.text
                self.printed = run(router, step.text)
        if 'keygen' in step.text:
            self._copy_key()

    def _compare(self, pattern: str) -> None:
        def look() -> bool:
            if not fits(pattern, self.printed) and self.retry is not None:
                self.printed = run(*self.retry)
            return fits(pattern, self.printed)

        within(PATIENCE if self.retry else 0, look, lambda: f'{pattern}\nnot in\n{self.printed}')

    def _start(self, router: Router, command: str) -> None:
        with (router.home / 'log').open('ab') as log:
            self.daemons.append(
                router.node.popen(
                    ['sh', '-ec', f'exec {command}'],
                    cwd=FOLDER,
                    environment=daemon_environment(),
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )

    def _copy_key(self) -> None:
        """By a safe way, with its mode."""
        here, there = (self.routers[name].node.proc / 'root/etc/exabgp' for name in ('r1', 'r2'))
        shutil.copy(here / KEY, there / KEY)


def run(router: Router, commands: str) -> str:
    """What the commands print, on both streams."""
    return router.node.run(['sh', '-ec', commands], cwd=_folder(router)).stdout


def _folder(router: Router) -> str:
    return FOLDER if (router.node.proc / 'root/etc/exabgp').is_dir() else '/'


@pytest.fixture
def readers(routers: Routers) -> Iterator[Readers]:
    found = Readers(routers)
    for router in found.routers.values():
        # Of a node's own, not the host's.
        router.node.run(['sh', '-ec', 'mkdir -p /run/readme /etc/exabgp; rm -rf /run/exabgp'])
        router.node.run(['mount', '--bind', '/run/readme', '/etc/exabgp'])
    yield found
    for daemon in found.daemons:
        daemon.terminate()
    for daemon in found.daemons:
        daemon.wait(30)
    for router in found.routers.values():
        router.node.run(['umount', '/etc/exabgp'])


def test_readme_brings_two_routers_up_when_followed(readers: Readers) -> None:
    done = list(steps())
    assert len(done) == 12
    for step in done:
        readers.follow(step)
