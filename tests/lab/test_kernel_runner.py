"""Commands inside a freshly booted guest, seen from the host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.uml.boot import NO_RESULT, TIMED_OUT, Guest, run
from lab.uml.build import unmet_options

pytestmark = pytest.mark.boots

POWER_OFF = "perl -e 'syscall(169, 0xfee1dead, 672274793, 0x4321fedc, 0)'"


class Output:
    """Collects what a guest prints."""

    def __init__(self) -> None:
        self.octets = b''

    def __call__(self, octets: bytes) -> None:
        self.octets += octets


@pytest.mark.parametrize('status', [0, 7])
def test_exit_status_is_the_commands(status: int) -> None:
    assert run(['sh', '-c', f'exit {status}'], Guest(timeout=60), Output()) == status


def test_guest_has_failed_when_it_leaves_no_result(capsys: pytest.CaptureFixture[str]) -> None:
    status = run(['sh', '-c', f'echo last words; {POWER_OFF}'], Guest(timeout=60), Output())
    assert status == NO_RESULT
    complaint = capsys.readouterr().err
    assert 'left no result' in complaint
    assert 'last words' in complaint


def test_guest_is_ended_when_it_does_not_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(['sleep', '1000'], Guest(timeout=3), Output()) == TIMED_OUT
    assert 'did not end within 3 s' in capsys.readouterr().err


def test_only_the_commands_output_is_passed_on() -> None:
    output = Output()
    run(['sh', '-c', 'printf one; echo two >&2'], Guest(timeout=60), output)
    assert output.octets == b'onetwo\n'


def test_arguments_directory_and_environment_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('CI', 'it is "so"')
    output = Output()
    guest = Guest(timeout=60, environment={'EXTRA': "it's"})
    run(['sh', '-c', 'echo "$1"; pwd; echo "$CI $EXTRA"', 'sh', "a 'b' $c"], guest, output)
    assert output.octets.decode() == f"a 'b' $c\n{Path.cwd()}\nit is \"so\" it's\n"


def test_working_folder_below_tmp_is_the_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(['sh', '-c', 'echo made inside > file; touch /tmp/scratch'], Guest(timeout=60), Output())
    assert (tmp_path / 'file').read_text() == 'made inside\n'
    assert not Path('/tmp/scratch').exists()


def test_guest_has_tcp_ao() -> None:
    output = Output()
    probe = [sys.executable, '-m', 'lab.tcpao_kernel', 'probe']
    assert run(probe, Guest(timeout=60), output) == 0
    assert output.octets == b'TCP-AO\n'


def test_time_travels_when_everything_sleeps() -> None:
    output = Output()
    guest = Guest(timeout=100, time_travel=True)
    assert run(['sh', '-c', 'date +%s; sleep 86400; date +%s'], guest, output) == 0
    before, after = map(int, output.octets.split())
    assert after - before >= 86400


def test_command_line_passes_the_exit_status_on() -> None:
    command = [sys.executable, '-m', 'lab.uml', 'run', '--timeout', '60', '--', 'sh', '-c']
    done = subprocess.run([*command, 'echo hello; exit 3'], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (3, b'hello\n')


def test_option_is_noticed_when_the_source_does_not_take_it() -> None:
    fragment = '# why\nCONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\n# CONFIG_D is not set\n'
    configuration = 'CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=y\n'
    assert unmet_options(fragment, configuration) == ['CONFIG_B=y', '# CONFIG_C is not set']


def test_job_is_not_left_in_the_cache(tmp_path: Path) -> None:
    output = Output()
    run(['sh', '-c', 'tr "\\0" "\\n" < /proc/1/environ'], Guest(timeout=60), output)
    (job,) = [
        line.partition('=')[2]
        for line in output.octets.decode().splitlines()
        if line.startswith('GATEKEEPER_JOB=')
    ]
    assert not os.path.exists(job)
