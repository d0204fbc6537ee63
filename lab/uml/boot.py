"""A command inside a User Mode Linux, and its exit status.

Not a virtual machine manager: a guest ends with its command. The guest's exit status is lost, so
the guest writes a result file at its end; no file is a failure.
"""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from lab.uml.build import cache_directory, ensure_kernel

INIT = Path(__file__).with_name('guest-init')
PROJECT = Path(__file__).resolve().parents[2]
# Markers that guest-init prints around the job's output.
UP = b'\x1eup\n'
DOWN = b'\x1edown\n'
TAIL_LINES = 40
# Our own exit statuses, the same as those of timeout(1) and the shell.
TIMED_OUT = 124
NO_RESULT = 125
# Seconds for the guest to switch itself off once the result is written.
POWER_OFF_SECONDS = 10

PASSED_ON = frozenset(
    {
        *('CI', 'EVERY_CHANGE', 'HOME', 'LANG', 'LC_ALL', 'LOGNAME', 'NO_COLOR', 'PATH', 'TERM'),
        *('TZ', 'VIRTUAL_ENV'),
    }
)
PASSED_ON_PREFIXES = ('COVERAGE', 'EXABGP', 'exabgp', 'HYPOTHESIS', 'PYTEST', 'PYTHON')


@dataclass(frozen=True)
class Guest:
    """The settings of a guest.

    `memory` is mem= of the kernel's command line; `timeout` is in wall-clock seconds; `time_travel`
    lets the guest's clock jump to the next timer whenever everything sleeps; `environment` is added
    to the variables that are passed on from this process.
    """

    memory: str = '1G'
    timeout: float | None = None
    time_travel: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    init: Path = INIT


def _to_stdout(octets: bytes) -> None:
    sys.stdout.buffer.write(octets)
    sys.stdout.buffer.flush()


def run(
    command: Sequence[str],
    guest: Guest = Guest(),
    output: Callable[[bytes], None] = _to_stdout,
) -> int:
    """Run a command in a fresh guest, its output given to `output`; return its exit status.

    Both outputs of the command come at once, in pieces that need not be lines. The working
    directory and the relevant environment are the caller's. Returns 124 when the timeout passes and
    125 when the guest ends without a result; both are explained on standard error. Raises
    lab.uml.build.BuildError when there is no kernel and none can be built.
    """
    kernel = ensure_kernel()
    directory = cache_directory()
    job = Path(tempfile.mkdtemp(prefix='run.', dir=directory))
    try:
        _write_job(job, command, guest.environment)
        return _boot(kernel, job, guest, _Console(output))
    finally:
        shutil.rmtree(job, ignore_errors=True)


def _write_job(job: Path, command: Sequence[str], extra: Mapping[str, str]) -> None:
    environment = {name: value for name, value in os.environ.items() if _is_passed_on(name)}
    environment.update(extra)
    settings = [f'{name}={value}' for name, value in environment.items()]
    # A clean environment: not the settings of the kernel's command line, which process 1 gets.
    execute = shlex.join(['exec', 'env', '-i', *settings, *command])
    (job / 'job').write_text(f'cd {shlex.quote(os.getcwd())} || exit 126\n{execute}\n')
    keep = {path for path in (*_host_folders(), job) if _is_hidden_by_scratch(path)}
    # Shorter first: a folder inside another kept folder needs no mount of its own.
    outermost = [path for path in keep if not any(other in path.parents for other in keep)]
    (job / 'keep').write_text(''.join(f'{path}\n' for path in sorted(outermost)))


def _is_passed_on(name: str) -> bool:
    return name in PASSED_ON or name.startswith(PASSED_ON_PREFIXES)


def _host_folders() -> set[Path]:
    prefixes = {Path(sys.prefix), Path(sysconfig.get_paths()['purelib'])}
    return {Path.cwd(), PROJECT, *(path.resolve() for path in prefixes)}


def _is_hidden_by_scratch(path: Path) -> bool:
    return any(Path(top) in path.parents for top in ('/tmp', '/run'))


def _boot(kernel: Path, job: Path, guest: Guest, console: _Console) -> int:
    arguments = [
        str(kernel),
        f'mem={guest.memory}',
        'root=/dev/root',
        'rootfstype=hostfs',
        'rootflags=/',
        'rw',
        f'init={guest.init}',
        'con=null',
        'con0=null,fd:1',
        'quiet',
        # The control socket goes next to the job and not into the home.
        f'uml_dir={job}',
        'umid=guest',
        # Unknown settings become the environment of the guest's first process.
        f'GATEKEEPER_JOB={job}',
    ]
    if guest.time_travel:
        # Jitter entropy tests itself against a clock that stands still, which takes 12 s.
        arguments += ['time-travel', 'initcall_blacklist=jent_mod_init']
    with _on_one_processor():
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=job,
            # The kernel is many host processes; as a group of their own they can be ended
            # together.
            start_new_session=True,
        )
    assert process.stdout is not None
    reader = threading.Thread(target=console.follow, args=(process.stdout,), daemon=True)
    reader.start()
    timed_out = False
    try:
        process.wait(guest.timeout)
    except subprocess.TimeoutExpired:
        timed_out = True
    finally:
        _end(process)
        reader.join(POWER_OFF_SECONDS)
    return _status(job, console, process.returncode, guest, timed_out)


@contextlib.contextmanager
def _on_one_processor() -> Iterator[None]:
    """Keep processes that start in this context on one of this thread's processors.

    The guest has one processor. Its kernel and its processes are processes of the host that take
    turns at every system call; a turn that crosses to another processor takes twice as long.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {random.choice(sorted(before))})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _status(job: Path, console: _Console, kernel: int, guest: Guest, timed_out: bool) -> int:
    result = job / 'result'
    if result.is_file():
        text = result.read_text().strip()
        if text.isdigit():
            return int(text)
    if timed_out:
        reason, status = f'did not end within {guest.timeout:g} s', TIMED_OUT
    else:
        reason, status = f'left no result (its kernel ended with {kernel})', NO_RESULT
    print(f'\nguest: {reason}; the end of its console:', file=sys.stderr)
    for line in console.tail:
        print(f'  | {line.decode(errors="replace").rstrip()}', file=sys.stderr)
    return status


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class _Console:
    """A console that passes the job's output on, and keeps its own last lines for a failure.

    The kernel's output before and after the job is kept, too, but not passed on.
    """

    def __init__(self, output: Callable[[bytes], None]) -> None:
        self._output = output
        self.tail: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._waiting = b''
        self._step: _Step = _before_job

    def follow(self, stream: BinaryIO) -> None:
        """Read until the end of the stream."""
        line = b''
        # Partial lines too, so that dots of progress don't wait for the end of their line.
        while chunk := os.read(stream.fileno(), 65536):
            *lines, line = (line + chunk).split(b'\n')
            self.tail.extend(lines)
            shown, self._waiting, self._step = self._step(self._waiting + chunk)
            if shown:
                self._output(shown)
        self.tail.append(line)


_Step = Callable[[bytes], tuple[bytes, bytes, '_Step']]


def _before_job(octets: bytes) -> tuple[bytes, bytes, _Step]:
    _, up, rest = octets.partition(UP)
    return _during_job(rest) if up else (b'', octets, _before_job)


def _during_job(octets: bytes) -> tuple[bytes, bytes, _Step]:
    shown, down, _ = octets.partition(DOWN)
    if down:
        return shown, b'', _after_job
    # The marker may come in two reads: hold back a possible beginning.
    keep = octets.rfind(DOWN[:1])
    if keep < 0 or not DOWN.startswith(octets[keep:]):
        keep = len(octets)
    return octets[:keep], octets[keep:], _during_job


def _after_job(_octets: bytes) -> tuple[bytes, bytes, _Step]:
    return b'', b'', _after_job
