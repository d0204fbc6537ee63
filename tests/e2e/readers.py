"""Who does what a page says, at both ends, in the folder /etc/exabgp of each router's own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.unprivileged import daemon_environment
from tests.e2e.conftest import Routers
from tests.e2e.readme import Step, fits
from tests.e2e.router import PATIENCE, Router, within

FOLDER = '/etc/exabgp'
KEY = 'r1-r2.psk'


class Readers:
    """Does the steps of a page."""

    def __init__(self, routers: Routers) -> None:
        self.routers = {'r1': routers.r1, 'r2': routers.r2}
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.printed = ''
        self.retry: tuple[Router, str] | None = None

    def follow(self, step: Step) -> None:
        """Do one step."""
        match step.mark:
            case 'prints':
                self._compare(step.text)
            case 'says':
                self._await(step.text.strip())
            case 'copies':
                for line in step.text.splitlines():
                    self._copy(line)
            case _:
                self._do(step)

    def _do(self, step: Step) -> None:
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

    def _await(self, text: str) -> None:
        """Until something that r1 or r2 has started says this."""
        found = self.routers.values()
        within(
            PATIENCE,
            lambda: any(text in router.log for router in found),
            lambda: '\n'.join(router.told(text) for router in found),
        )

    def _copy(self, command: str) -> None:
        """From r1 to r2 as `scp -p` does, which has no server here."""
        scp, keep, name, there = command.split()
        assert (scp, keep) == ('scp', '-p')
        router, _, path = there.partition(':')
        copied = self._root(router) / path.lstrip('/')
        shutil.copy(self._root('r1') / FOLDER.lstrip('/') / name, copied)
        copied.chmod((self._root('r1') / FOLDER.lstrip('/') / name).stat().st_mode & 0o7777)

    def _copy_key(self) -> None:
        """By a safe way, with its mode."""
        here, there = (self._root(name) / FOLDER.lstrip('/') for name in ('r1', 'r2'))
        shutil.copy(here / KEY, there / KEY)

    def _root(self, router: str) -> Path:
        return self.routers[router].node.proc / 'root'


def run(router: Router, commands: str) -> str:
    """Run commands on a router; return their output, of both streams."""
    return router.node.run(['sh', '-ec', commands], cwd=_folder(router)).stdout


def _folder(router: Router) -> str:
    return FOLDER if (router.node.proc / 'root/etc/exabgp').is_dir() else '/'


@contextmanager
def reading(routers: Routers) -> Iterator[Readers]:
    """Readers at r1 and r2; their daemons end with them."""
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
        router.node.run(['sh', '-ec', 'rm -rf /etc/exabgp/*; umount /etc/exabgp'])
