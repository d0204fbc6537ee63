"""`exabgp-gatekeeper` as a process: every subcommand of ExaBGP, and ours in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from plugin.configuration.several_files import protecting_files
from plugin.launcher import home_of
from tests.plugin.texts import PSK, SECTION, neighbor

Write = Callable[[str], Path]

PROJECT = Path(__file__).resolve().parents[2]


def run(
    *arguments: str, module: str = 'plugin.launcher', **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, '-m', module, *arguments],
        env={**os.environ, 'PYTHONPATH': str(PROJECT), **environment},
        cwd='/',
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_version_is_exabgps() -> None:
    ours, theirs = run('version'), run('version', module='exabgp')
    assert ours.returncode == 0
    assert ours.stdout == theirs.stdout


def test_good_configuration_is_valid(write: Write) -> None:
    done = run('validate', '-n', '-v', str(write(neighbor())))
    assert done.returncode == 0, done.stderr
    assert 'psk-file "r.psk";' in done.stdout + done.stderr
    assert PSK not in done.stdout + done.stderr


def test_bad_configuration_is_told_with_its_line_and_status_1(write: Write) -> None:
    path = write('# head\n' + neighbor(section=SECTION.replace('psk-file', 'lifetime 2; psk-file')))
    done = run('validate', str(path))
    assert done.returncode == 1
    assert f'{path} line 11: ikev2 lifetime: 2 is too small' in done.stderr


def test_key_files_are_checked_too(write: Write, psk: Path) -> None:
    path = write(neighbor())
    psk.chmod(0o644)
    done = run('validate', str(path))
    assert done.returncode == 1
    assert 'chmod 0600' in done.stderr


def test_plain_exabgp_does_not_know_the_section(write: Write) -> None:
    """The patches are in this process and nowhere else."""
    done = run('validate', str(write(neighbor())), module='exabgp')
    assert done.returncode == 1
    assert 'ikev2 is invalid in neighbor' in done.stderr


def test_server_does_not_start_when_its_configuration_is_bad(write: Write) -> None:
    path = write(neighbor(section=SECTION.replace('r.psk', 'none')))
    done = run('server', str(path), exabgp_api_cli='false')
    assert done.returncode == 1
    assert 'cannot read key file' in done.stderr


def test_environment_shows_our_section() -> None:
    done = run('env', exabgp_ikev2_port='1500 14500')
    assert done.returncode == 0
    assert "port = '1500 14500'" in done.stdout
    assert '[exabgp.ikev2]' in done.stdout


def test_environment_file_is_read_for_our_section(tmp_path: Path) -> None:
    path = tmp_path / 'exabgp.env'
    path.write_text("[exabgp.ikev2]\nport = '1600 14600'\n")
    done = run('--env-file', str(path), 'env')
    assert "port = '1600 14600'" in done.stdout


def test_bad_ports_are_refused() -> None:
    done = run('env', exabgp_ikev2_port='500')
    assert done.returncode == 1
    assert done.stderr.startswith("exabgp-gatekeeper: exabgp.ikev2.port is '500'; expected two UDP")


def test_command_line_has_exabgps_own_helper(tmp_path: Path) -> None:
    """ExaBGP starts this script again for it: with that in the environment, no patching."""
    probe = tmp_path / 'probe.py'
    probe.write_text(
        'import sys\n'
        'import exabgp.application.pipe as pipe\n'
        "pipe.main = lambda name: print(name, 'plugin.reactor.hooks' in sys.modules)\n"
        'from plugin import launcher\n'
        'launcher.main()\n'
    )
    done = subprocess.run(
        [sys.executable, str(probe)],
        env={**os.environ, 'PYTHONPATH': str(PROJECT), 'exabgp_cli_pipe': '/run/x'},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == '/run/x False\n'


def test_launcher_can_be_run_as_the_script_that_it_names(tmp_path: Path) -> None:
    """ExaBGP does so for its helper after `python -m`, without our path and as any user."""
    probe = (
        'import runpy, sys; import exabgp.application.pipe as pipe; '
        'pipe.main = lambda name: print(name); '
        f'sys.argv = [{str(PROJECT / "plugin" / "launcher.py")!r}]; '
        f'runpy.run_path(sys.argv[0], run_name="__main__")'
    )
    done = subprocess.run(
        [sys.executable, '-c', probe],
        env={**os.environ, 'exabgp_cli_pipe': '/run/x'},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == '/run/x\n', done.stderr


def test_packages_from_two_directories_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'stranger').mkdir()
    (tmp_path / 'stranger' / '__init__.py').write_text('')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match='come from different directories') as caught:
        home_of(('plugin', 'stranger'))
    assert str(tmp_path) in str(caught.value)


def test_our_packages_come_from_one_directory() -> None:
    assert home_of(('plugin', 'gatekeeper', 'ikev2', 'tcpao', 'keymaterial')) == PROJECT


# --- neighbors without the section are what they were -------------------------------------------

DUMP = """
import json, sys
from exabgp.environment import getenv
from exabgp.logger import log
log.init(getenv())
if sys.argv[1] == 'patched':
    from plugin import install
    install.install()
from exabgp.bgp.neighbor import NeighborTemplate
from exabgp.configuration.configuration import Configuration
result = {}
for path in sys.argv[2:]:
    configuration = Configuration([path])
    loaded = configuration.reload()
    result[path] = [loaded is True] + sorted(
        name + NeighborTemplate.configuration(neighbor) + str(neighbor.families())
        + str(sorted(str(change) for change in neighbor.changes))
        for name, neighbor in configuration.neighbors.items()
    )
print(json.dumps(result))
"""


def dumped(how: str, paths: Sequence[Path]) -> dict[str, list[object]]:
    done = subprocess.run(
        [sys.executable, '-c', DUMP, how, *map(str, paths)],
        env={**os.environ, 'PYTHONPATH': str(PROJECT), 'exabgp_log_enable': 'false'},
        cwd='/',
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    result: dict[str, list[object]] = json.loads(done.stdout)
    return result


def test_exabgps_own_examples_load_as_upstreams() -> None:
    """Every example of ExaBGP's, with and without the plugin: names, families, routes, text."""
    # Its wheel puts them there.
    examples = sorted((Path(sys.prefix) / 'etc' / 'exabgp' / 'examples').glob('*.conf'))
    assert len(examples) > 30, 'where are the examples of this exabgp?'
    assert dumped('patched', examples) == dumped('upstream', examples)


def test_two_files_are_refused_when_both_protect_neighbors(tmp_path: Path, psk: Path) -> None:
    """Each would be a daemon of its own, and they share one pair of UDP ports."""
    files = [tmp_path / name for name in ('a.conf', 'b.conf')]
    for file, peer in zip(files, ('127.0.0.2', '127.0.0.3'), strict=True):
        file.write_text(neighbor(peer=peer))
    refused = run('server', *map(str, files), exabgp_api_cli='false')
    assert refused.returncode == 1
    assert f'{files[0]} and {files[1]} protect neighbors' in refused.stderr
    assert refused.stderr.count('\n') == 1


def test_one_file_of_two_may_protect_neighbors(tmp_path: Path, psk: Path) -> None:
    names = [str(tmp_path / name) for name in ('a.conf', 'b.conf', 'c.conf')]
    for name, section in zip(names, (SECTION, ''), strict=False):
        Path(name).write_text(neighbor(section=section))
    assert protecting_files(names) == names[:1]
