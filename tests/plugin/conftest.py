"""ExaBGP with the plugin in place, for every test of this folder."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from exabgp.environment import getenv
from exabgp.logger import log
from exabgp.reactor import interrupt

from gatekeeper.configuration.key_files import KeyFiles
from plugin import install, patching
from plugin.configuration import neighbors
from plugin.reactor import lifecycle
from tests.plugin.doubles import Daemon, FakeGatekeeper
from tests.plugin.texts import PSK


@pytest.fixture(scope='session', autouse=True)
def patched() -> Iterator[None]:
    install.install()
    log.init(getenv())
    yield
    patching.restore()


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Reset what an ExaBGP process has once: key files read before, working directory, umask."""
    monkeypatch.setattr(neighbors, 'files', KeyFiles(neighbors.files.daemon_user))
    folder, mask = os.getcwd(), os.umask(0o022)
    # Its handlers would take the test runner's, whose time-out is a signal.
    quiet = SimpleNamespace(**vars(signal) | {'signal': lambda number, handler: None})
    monkeypatch.setattr(interrupt, 'signal', quiet)
    yield
    os.chdir(folder)
    os.umask(mask)


@pytest.fixture
def psk(tmp_path: Path) -> Path:
    """A private key file beside the configuration."""
    path = tmp_path / 'r.psk'
    path.write_bytes(f'{PSK}\n'.encode())
    path.chmod(0o600)
    return path


@pytest.fixture
def write(tmp_path: Path, psk: Path) -> Callable[[str], Path]:
    """Writes a configuration file."""

    def writer(text: str) -> Path:
        path = tmp_path / 'exabgp.conf'
        path.write_text(text)
        return path

    return writer


@pytest.fixture
def daemon(
    write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Daemon]]:
    """Starts daemons up to the point where their loop begins."""
    daemons: list[Daemon] = []

    def start(text: str, **environment: Any) -> Daemon:
        for name, value in environment.items():
            section, option = name.split('_')
            monkeypatch.setitem(getenv()[section], option, value)
        gatekeeper = FakeGatekeeper()
        started = Daemon(write(text), gatekeeper)
        monkeypatch.setattr(lifecycle, 'starter', started.starter)
        monkeypatch.setattr(lifecycle, 'clearer', gatekeeper.clear)
        daemons.append(started)
        return started

    yield start
    for one in daemons:
        one.stop()
