"""The systemd units in configs/systemd: what systemd itself says of them, and how they are read."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lab.systemd_unit import as_unit, environment_of, read_unit
from lab.unprivileged import PROJECT

FOLDER = PROJECT / 'configs' / 'systemd'
UNIT = FOLDER / 'exabgp-gatekeeper.service'
DROP_IN = FOLDER / 'exabgp.service.d' / 'gatekeeper.conf'
PROGRAM = '/opt/gatekeeper/bin/exabgp-gatekeeper'
CAPABILITIES = ['CAP_NET_ADMIN CAP_NET_BIND_SERVICE']


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit, with a program that is there in place of ours, which need not be installed."""
    assert shutil.which('systemd-analyze'), 'install systemd: its analysis of the unit is the test'
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace(PROGRAM, '/bin/true'))
    return path


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ['systemd-analyze', *arguments], capture_output=True, text=True, timeout=60
    )


def test_unit_has_no_fault_for_systemd(installed: Path) -> None:
    done = analyze('verify', str(installed))
    # systemd-analyze complains of units of the host, too.
    assert installed.name not in done.stderr
    assert done.returncode == 0


def test_unit_is_exposed_no_more_than_systemd_calls_ok(installed: Path) -> None:
    done = analyze('security', '--offline=yes', '--threshold=40', str(installed))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize('path', [UNIT, DROP_IN], ids=['unit', 'drop-in'])
def test_unit_has_two_capabilities_and_no_more(path: Path) -> None:
    unit = read_unit(path)
    assert unit['AmbientCapabilities'] == unit['CapabilityBoundingSet'] == CAPABILITIES
    assert unit['NoNewPrivileges'] == ['yes']
    assert environment_of(unit)['exabgp_daemon_user'] == 'exabgp'
    assert unit['ExecStart'] == [f'{PROGRAM} server /etc/exabgp/exabgp.conf']


def test_read_unit_forgets_what_an_empty_value_takes_away(tmp_path: Path) -> None:
    path = tmp_path / 'x.service'
    path.write_text('[Service]\nExecStart=one\nExecStart=\nExecStart=two\n# ExecStart=three\n')
    assert read_unit(path) == {'ExecStart': ['two']}


def test_command_line_has_the_privileges_of_the_unit() -> None:
    line = ' '.join(as_unit(read_unit(UNIT), 'nobody', 'nogroup'))
    assert '--ambient-caps=-all,+net_admin,+net_bind_service' in line
    assert '--bounding-set=-all,+net_admin,+net_bind_service' in line
    assert '--no-new-privs' in line


def test_readme_installs_only_existing_files() -> None:
    commands = (FOLDER / 'README.md').read_text()
    for name in re.findall(r'configs/systemd/[\w./-]+', commands):
        assert (PROJECT / name).is_file(), name
