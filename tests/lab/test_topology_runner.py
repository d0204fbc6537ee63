"""Topologies that really come up, in network namespaces."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab.topology import LabError, Topology

pytestmark = pytest.mark.netns

PAIR = """\
name: {name}
topology:
  nodes:
    a:
      kind: linux
      binds: [note:/etc/gatekeeper-lab-test/note:ro, out:/etc/gatekeeper-lab-test/out]
      env: {{GREETING: hello}}
      exec: [ip address add 10.0.0.1/24 dev eth1]
      entrypoint: sh -c
      cmd: '"until [ -e /sys/class/net/eth1 ]; do sleep 0.1; done; echo $GREETING;
        touch /run/greeted; exec sleep infinity"'
    b:
      kind: linux
      exec: [ip address add 10.0.0.2/24 dev eth1]
  links:
    - endpoints: ["a:eth1", "b:eth1"]
"""


@pytest.fixture
def pair(tmp_path: Path) -> Topology:
    (tmp_path / 'note').write_text('a note\n')
    (tmp_path / 'out').mkdir()
    path = tmp_path / 'pair.clab.yml'
    path.write_text(PAIR.format(name=f'test-{os.getpid()}'))
    return Topology.load(path)


def namespaces(topology: Topology) -> list[str]:
    listed = subprocess.run(['ip', 'netns'], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if f'clab-{topology.name}-' in line]


def test_linked_nodes_reach_each_other(pair: Topology, tmp_path: Path) -> None:
    with pair.up(tmp_path / 'logs') as lab:
        lab.node('a').run(['ping', '-c', '1', '10.0.0.2'])


def test_bind_shows_the_file_and_leaves_the_host_as_it_is(pair: Topology, tmp_path: Path) -> None:
    with pair.up(tmp_path / 'logs') as lab:
        shown = lab.node('a').run(['cat', '/etc/gatekeeper-lab-test/note']).stdout
        # What was in /etc is still there, and for every process.
        mode = lab.node('a').run(['stat', '-c', '%a', '/etc', '/etc/passwd']).stdout
        assert not Path('/etc/gatekeeper-lab-test').exists()
    assert shown == 'a note\n'
    assert mode == '755\n644\n'


def test_read_only_bind_cannot_be_written(pair: Topology, tmp_path: Path) -> None:
    with pair.up(tmp_path / 'logs') as lab:
        tried = lab.node('a').run(['touch', '/etc/gatekeeper-lab-test/note'], check=False)
    assert tried.returncode != 0
    assert 'Read-only' in tried.stdout


def test_folder_takes_files_when_it_is_bound_writable(pair: Topology, tmp_path: Path) -> None:
    with pair.up(tmp_path / 'logs') as lab:
        lab.node('a').run(['sh', '-c', 'echo done > /etc/gatekeeper-lab-test/out/file'])
    assert (tmp_path / 'out' / 'file').read_text() == 'done\n'


def test_missing_bind_source_is_named(pair: Topology, tmp_path: Path) -> None:
    (tmp_path / 'note').unlink()
    with (
        pytest.raises(LabError, match=r'node a: bind source .*/note is not there'),
        pair.up(tmp_path / 'logs'),
    ):
        pass
    assert namespaces(pair) == []


def test_each_node_has_a_run_folder_of_its_own(pair: Topology, tmp_path: Path) -> None:
    with pair.up(tmp_path / 'logs') as lab:
        lab.node('a').run(['touch', '/run/mine'])
        assert lab.node('b').run(['test', '-e', '/run/mine'], check=False).returncode == 1
    assert not Path('/run/mine').exists()


def test_main_process_sees_its_links_and_logs(pair: Topology, tmp_path: Path) -> None:
    with pair.up(tmp_path / 'logs') as lab:
        lab.node('a').run(['sh', '-c', 'until [ -e /run/greeted ]; do sleep 0.1; done'])
        log = lab.node('a').log
    assert log.read_text() == 'hello\n'


def test_node_has_no_other_interfaces_than_its_links(pair: Topology, tmp_path: Path) -> None:
    with pair.up(tmp_path / 'logs') as lab:
        assert lab.node('a').run(['ls', '/sys/class/net']).stdout == 'eth1\nlo\n'


def test_killed_main_process_can_be_started_again(pair: Topology, tmp_path: Path) -> None:
    with pair.up(tmp_path / 'logs') as lab:
        first = lab.node('a').pid
        lab.node('a').restart()
        assert lab.node('a').pid != first
        assert not Path(f'/proc/{first}').exists()


def test_start_is_refused_when_a_node_has_no_main_process(pair: Topology, tmp_path: Path) -> None:
    with (
        pair.up(tmp_path / 'logs') as lab,
        pytest.raises(LabError, match='node b runs no main process'),
    ):
        lab.node('b').kill()


def test_failed_command_shows_its_output(pair: Topology, tmp_path: Path) -> None:
    with (
        pair.up(tmp_path / 'logs') as lab,
        pytest.raises(LabError, match=r'(?s)node a: ls /none ended with 2:.*No such file'),
    ):
        lab.node('a').run(['ls', '/none'])


def test_nothing_is_left_after_the_end(pair: Topology, tmp_path: Path) -> None:
    with pair.up(tmp_path / 'logs') as lab:
        stray = lab.node('a').popen(['sleep', '1000'])
        assert len(namespaces(pair)) == 2
    assert namespaces(pair) == []
    assert stray.wait(30) == -signal.SIGKILL


def test_nothing_is_left_after_an_exception(pair: Topology, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), pair.up(tmp_path / 'logs'):
        raise ZeroDivisionError
    assert namespaces(pair) == []


def test_nothing_is_left_after_a_failed_exec(pair: Topology, tmp_path: Path) -> None:
    path = tmp_path / 'pair.clab.yml'
    path.write_text(path.read_text().replace('10.0.0.2/24', 'nonsense'))
    with pytest.raises(LabError, match='node b'), Topology.load(path).up(tmp_path / 'logs'):
        pass
    assert namespaces(pair) == []


def is_alive(pid: str) -> bool:
    """The process that has inherited a dead one may not have asked for its status yet."""
    try:
        status = Path(f'/proc/{pid}/stat').read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(')')[2].split()[0] not in ('Z', 'X')


def test_leftovers_of_a_killed_run_are_removed_by_the_next(pair: Topology, tmp_path: Path) -> None:
    script = (
        'import os, signal, sys; from lab.topology import Topology\n'
        'with Topology.load(sys.argv[1]).up(sys.argv[2]) as lab:\n'
        '    print(lab.node("a").pid, flush=True)\n'
        '    os.kill(os.getpid(), signal.SIGKILL)\n'
    )
    killed = subprocess.run(
        [sys.executable, '-c', script, tmp_path / 'pair.clab.yml', tmp_path / 'logs'],
        stdout=subprocess.PIPE,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    orphan = killed.stdout.decode().strip()
    assert is_alive(orphan)
    with pair.up(tmp_path / 'logs') as lab:
        assert not is_alive(orphan)
        lab.node('a').run(['ping', '-c', '1', '10.0.0.2'])


def test_running_lab_is_not_touched_by_another_run(pair: Topology, tmp_path: Path) -> None:
    with pair.up(tmp_path / 'logs') as lab:
        with pytest.raises(LabError, match='is up in another process'), pair.up(tmp_path / 'two'):
            pass
        lab.node('a').run(['true'])
