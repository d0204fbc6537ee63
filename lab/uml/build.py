"""The build of the User Mode Linux kernel from Debian's source package, once, into a cache.

Not a general kernel builder: one source package, one configuration (`kernel.config` on top of the
architecture's defconfig), one result. The cache lies outside the tree, under a key of the source's
version and the configuration's hash, so that every checkout shares it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

SOURCE_PACKAGE = 'linux-source-6.12'
SOURCE_ARCHIVE = Path('/usr/src/linux-source-6.12.tar.xz')
BUILD_PACKAGES = (
    SOURCE_PACKAGE,
    'gcc',
    'libc6-dev',
    'make',
    'flex',
    'bison',
    'bc',
    'libelf-dev',
    'xz-utils',
)
FRAGMENT = Path(__file__).with_name('kernel.config')
# Octets of the unpacked source and its objects.
DISK_NEEDED = 3 * 1024**3
PROGRESS_SECONDS = 15


class BuildError(Exception):
    """The kernel can't be built; the message says at which step and where the log is."""


def cache_directory() -> Path:
    """Return the folder of kernels: `exabgp-gatekeeper` below $XDG_CACHE_HOME or ~/.cache."""
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(base) / 'exabgp-gatekeeper'


def configuration_hash() -> str:
    """Return twelve hex digits that change whenever the guest's configuration does."""
    return hashlib.sha256(FRAGMENT.read_bytes()).hexdigest()[:12]


def installed_source() -> str | None:
    """Return the version of the installed source package, or None."""
    answer = subprocess.run(
        ['dpkg-query', '-W', '-f', '${db:Status-Abbrev}${Version}', SOURCE_PACKAGE],
        capture_output=True,
        text=True,
        check=False,
    )
    found = answer.stdout.startswith('ii ') and SOURCE_ARCHIVE.is_file()
    return answer.stdout[3:].strip() if found else None


def cached_kernel() -> Path | None:
    """Return the kernel for this configuration, or None if there is none.

    With the source package installed, only a kernel of that version; without it, the newest one, so
    that a machine with a cache needs no download.
    """
    directory = cache_directory()
    version = installed_source()
    if version is not None:
        kernel = directory / kernel_name(version)
        return kernel if kernel.is_file() else None
    candidates = directory.glob(kernel_name('*'))
    return max(candidates, key=lambda path: path.stat().st_mtime, default=None)


def kernel_name(version: str) -> str:
    """Return the file name of a kernel in the cache."""
    return f'linux-uml-{version}-{configuration_hash()}'


def ensure_kernel() -> Path:
    """Return the cached kernel, after building it if necessary. Raises BuildError."""
    kernel = cached_kernel()
    if kernel is not None:
        return kernel
    with _build_lock():
        # Another process may have built the kernel while this one waited for the lock.
        kernel = cached_kernel()
        return kernel if kernel is not None else _build()


@contextmanager
def _build_lock() -> Iterator[None]:
    directory = cache_directory()
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / 'build.lock').open('w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say('another build is running: waiting for it')
            fcntl.flock(lock, fcntl.LOCK_EX)
        # Only the holder of the lock builds: other folders here were left by a build that was
        # killed.
        for leftover in directory.glob('build.*'):
            if leftover.is_dir():
                shutil.rmtree(leftover)
        yield


def _build() -> Path:
    started = time.monotonic()
    _install_packages()
    version = installed_source()
    if version is None:
        raise BuildError(f'{SOURCE_PACKAGE} is installed, yet {SOURCE_ARCHIVE} is missing')
    directory = cache_directory()
    if shutil.disk_usage(directory).free < DISK_NEEDED:
        raise BuildError(f'{directory} needs {DISK_NEEDED // 1024**3} GiB free to build in')
    log = directory / 'build.log'
    scratch = Path(tempfile.mkdtemp(prefix='build.', dir=directory))
    try:
        with log.open('w') as output:
            _say(f'building {SOURCE_PACKAGE} {version} as User Mode Linux, once (log: {log})')
            _step(['tar', '-xf', str(SOURCE_ARCHIVE), '--strip-components=1'], scratch, log, output)
            _configure(scratch, log, output)
            _compile(scratch, log, output)
            _step(['strip', 'linux'], scratch, log, output)
        kernel = directory / kernel_name(version)
        # Renaming is atomic: no process ever sees a partial kernel.
        (scratch / 'linux').rename(kernel)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _say(f'{kernel} built in {time.monotonic() - started:.0f} s')
    return kernel


def _install_packages() -> None:
    missing = [name for name in BUILD_PACKAGES if not _is_installed(name)]
    if not missing:
        return
    if os.geteuid() != 0:
        raise BuildError(f'run as root, or first: apt-get install {" ".join(missing)}')
    _say(f'installing {" ".join(missing)}')
    environment = os.environ | {'DEBIAN_FRONTEND': 'noninteractive'}
    install = ['apt-get', 'install', '-y', '-qq', '--no-install-recommends', *missing]
    for command in (['apt-get', 'update', '-qq'], install):
        done = subprocess.run(
            command,
            env=environment,
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode:
            raise BuildError(f'{" ".join(command)} failed:\n{done.stdout[-2000:]}')


def _is_installed(package: str) -> bool:
    answer = subprocess.run(
        ['dpkg-query', '-W', '-f', '${db:Status-Abbrev}', package],
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.startswith('ii ')


def _configure(source: Path, log: Path, output: TextIO) -> None:
    _step(['make', '-s', 'ARCH=um', 'defconfig'], source, log, output)
    merge = ['scripts/kconfig/merge_config.sh', '-m', '.config', str(FRAGMENT)]
    _step(merge, source, log, output)
    _step(['make', '-s', 'ARCH=um', 'olddefconfig'], source, log, output)
    wrong = unmet_options(FRAGMENT.read_text(), (source / '.config').read_text())
    if wrong:
        raise BuildError(f'the source does not take these options: {", ".join(wrong)}')


def unmet_options(fragment: str, configuration: str) -> list[str]:
    """Return the lines of a fragment that are missing in a finished .config."""
    have = set(configuration.splitlines())
    enabled = {line.partition('=')[0] for line in have if line.startswith('CONFIG_')}
    unmet = []
    for line in fragment.splitlines():
        wanted = line.startswith('CONFIG_')
        unwanted = line.startswith('# CONFIG_')
        if (wanted and line not in have) or (unwanted and line.split()[1] in enabled):
            unmet.append(line)
    return unmet


def _compile(source: Path, log: Path, output: TextIO) -> None:
    cores = len(os.sched_getaffinity(0))
    # The build takes minutes of all cores: other processes have precedence.
    command = ['nice', 'make', f'-j{cores}', 'ARCH=um', 'linux']
    started = time.monotonic()
    # make writes to the log itself, so that this process only wakes to report.
    with subprocess.Popen(command, cwd=source, stdout=output, stderr=subprocess.STDOUT) as make:
        while True:
            try:
                status = make.wait(PROGRESS_SECONDS)
                break
            except subprocess.TimeoutExpired:
                objects = log.read_text(errors='replace').count('  CC  ')
                _say(f'{objects} files compiled in {time.monotonic() - started:.0f} s')
            except BaseException:
                make.kill()
                raise
    if status:
        raise BuildError(_failure(command, status, log))


def _step(command: list[str], directory: Path, log: Path, output: TextIO) -> None:
    status = subprocess.run(
        command,
        cwd=directory,
        stdout=output,
        stderr=subprocess.STDOUT,
        check=False,
    ).returncode
    if status:
        raise BuildError(_failure(command, status, log))


def _failure(command: list[str], status: int, log: Path) -> str:
    tail = '\n'.join(log.read_text(errors='replace').splitlines()[-20:])
    return f'{" ".join(command)} ended with {status}; end of {log}:\n{tail}'


def _say(text: str) -> None:
    print(f'kernel: {text}', file=sys.stderr, flush=True)
