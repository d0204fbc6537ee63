"""One node that is up: its namespaces, its log and its processes.

Not a container: a node shares the host's processes and, except for /run and its binds, its files.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.topology.model import NodePlan

SETUP = Path(__file__).with_name('node-setup')
# A container starts with its image's environment, not with that of the caller.
PASSED_ON = frozenset({'CI', 'HOME', 'LANG', 'LC_ALL', 'PATH', 'TERM', 'TZ'})
PASSED_ON_PREFIXES = ('COVERAGE', 'PYTHON')
KILL_SECONDS = 5.0


class NodeError(Exception):
    """A node can't be set up, or a command in it failed; the text names it and shows its output."""


class Node:
    """A node of a lab. Its main process, if any, is the file's entrypoint and cmd."""

    def __init__(
        self, plan: NodePlan, namespace: Path, logs: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = plan.name
        self.namespace = namespace
        self.log = logs / f'{plan.name}.log'
        self.process: subprocess.Popen[bytes] | None = None
        self._plan = plan
        self._environment = environment
        self._holder = self._furnish()

    def _furnish(self) -> subprocess.Popen[bytes]:
        command = ['nsenter', f'--net={self.namespace}', 'unshare', '--mount', '--uts']
        command += [str(SETUP), self.name]
        for bind in self._plan.binds:
            command += [str(bind.source), bind.target, 'ro' if bind.read_only else 'rw']
        holder = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd='/',
            start_new_session=True,
        )
        assert holder.stdout is not None
        assert holder.stderr is not None
        with holder.stdout, holder.stderr:
            if holder.stdout.readline() != b'ready\n':
                reason = holder.stderr.read().decode(errors='replace').strip()
                holder.wait()
                raise NodeError(f'node {self.name}: {reason}')
        return holder

    @property
    def enter(self) -> list[str]:
        """Return the prefix of a command line that runs in the node."""
        # nsenter becomes the command, without a process in between.
        return ['nsenter', f'--target={self._holder.pid}', '--net', '--mount', '--uts']

    @property
    def proc(self) -> Path:
        """Return the node's folder in /proc: `root` is its file system, `net` its network."""
        return Path(f'/proc/{self._holder.pid}')

    @property
    def pid(self) -> int:
        """Return the main process. Raises NodeError if the node has none or it has ended."""
        if self.process is None or self.process.poll() is not None:
            raise NodeError(f'node {self.name} runs no main process; its log: {self.log}')
        return self.process.pid

    def start(self) -> None:
        """Start the main process, its output appended to the node's log; nothing without one."""
        if not self._plan.command:
            return
        if self.process is not None and self.process.poll() is None:
            raise NodeError(f'node {self.name} runs already')
        with self.log.open('ab') as log:
            self.process = self.popen(self._plan.command, stdout=log, stderr=subprocess.STDOUT)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send the main process a signal and wait for its end. Raises NodeError."""
        os.kill(self.pid, number)
        assert self.process is not None
        self.process.wait(KILL_SECONDS)

    def restart(self) -> None:
        """Kill (-9) the main process if it runs, and start it again."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self.start()

    def popen(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        cwd: str | Path = '/',
        **options: Any,
    ) -> subprocess.Popen[Any]:
        """Start a command in the node; options are subprocess.Popen's.

        The returned process is the command itself: its pid can be killed.
        """
        passed_on = {
            name: value
            for name, value in os.environ.items()
            if name in PASSED_ON or name.startswith(PASSED_ON_PREFIXES)
        }
        # The Python environment of the lab takes the place of the image.
        tools = f'{Path(sys.executable).parent}:{passed_on.get("PATH", os.defpath)}'
        variables = passed_on | {'PATH': tools} | dict(self._environment)
        variables |= self._plan.environment | dict(environment or {})
        options.setdefault('stdin', subprocess.DEVNULL)
        options.setdefault('start_new_session', True)
        return subprocess.Popen(
            [*self.enter, 'env', f'--chdir={cwd}', *command], env=variables, **options
        )

    def run(
        self,
        command: Sequence[str],
        *,
        check: bool = True,
        timeout: float | None = 60.0,
        input: str | None = None,  # noqa: A002 (as subprocess names it)
        environment: Mapping[str, str] | None = None,
        cwd: str | Path = '/',
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the node to its end; its output is captured as text, stderr with stdout.

        Raises NodeError if the command fails and `check` is set, subprocess.TimeoutExpired after
        `timeout` seconds (the command is killed then).
        """
        process = self.popen(
            command,
            environment=environment,
            cwd=cwd,
            stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            output, _ = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            process.wait()
            raise
        if check and process.returncode:
            raise NodeError(
                f'node {self.name}: {" ".join(command)} ended with {process.returncode}:\n{output}'
            )
        return subprocess.CompletedProcess(list(command), process.returncode, output)

    def execute(self) -> None:
        """Run the file's exec commands, in order, their output in the log. Raises NodeError."""
        for command in self._plan.execute:
            done = self.run(command)
            with self.log.open('a') as log:
                log.write(done.stdout)

    def reap(self) -> None:
        """Collect this node's own processes after all of the namespace's have been killed."""
        for process in (self._holder, self.process):
            if process is not None:
                process.wait(KILL_SECONDS)


def processes_in(namespaces: Collection[Path]) -> list[int]:
    """Return all processes whose network namespace is one of these."""
    wanted = {os.stat(namespace).st_ino for namespace in namespaces}
    found = []
    for name in os.listdir('/proc'):
        if name.isdigit():
            # The process may have ended; a zombie has no namespace.
            with contextlib.suppress(OSError):
                if os.stat(f'/proc/{name}/ns/net').st_ino in wanted:
                    found.append(int(name))
    return found


def kill_all_in(namespaces: Collection[Path]) -> None:
    """Kill (-9) every process in network namespaces, new ones too."""
    deadline = time.monotonic() + KILL_SECONDS
    while alive := processes_in(namespaces):
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise NodeError(f'processes {alive} do not die')
        time.sleep(0.01)
