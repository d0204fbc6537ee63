"""A pytest plugin: tests that need TCP-AO run in one boot of a kernel that has it.

Where the host's kernel has TCP-AO the plugin does nothing. Elsewhere the tests marked `kernel` or
`netns` are run by a second pytest inside a User Mode Linux, after all others. Its reports are
reported here: one summary, one list of the slowest, one closing line. A test without a report from
the guest has failed.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from lab.tcpao_kernel import has_tcp_ao
from lab.uml.boot import Guest, run
from lab.uml.build import BuildError

MARKS = ('kernel', 'netns')
# In the guest's environment: the descriptor for reports.
REPORTS = 'GATEKEEPER_TEST_REPORTS'
# For the whole boot, in seconds of wall-clock time.
GUEST_SECONDS = 3600.0


def pytest_configure(config: pytest.Config) -> None:
    """Register the part of this plugin for this process."""
    descriptor = os.environ.pop(REPORTS, None)
    if descriptor is not None:
        config.pluginmanager.register(_ReportWriter(config, int(descriptor)))
    elif not has_tcp_ao():
        config.pluginmanager.register(_GuestRunner())


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail tests that can't run here: a skipped check would count as passed."""
    needs_root = _is_marked(item) or item.get_closest_marker('native')
    if needs_root and os.geteuid() != 0:
        pytest.fail('needs root', pytrace=False)


def _is_marked(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(mark) for mark in MARKS)


class _ReportWriter:
    """In the guest: a writer of every report as one line of JSON."""

    def __init__(self, config: pytest.Config, descriptor: int) -> None:
        self._config = config
        self._file = os.fdopen(descriptor, 'w', buffering=1)
        # Daemons that a test starts must not hold the console open.
        os.set_inheritable(descriptor, False)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        hook = self._config.hook
        data = hook.pytest_report_to_serializable(config=self._config, report=report)
        self._file.write(json.dumps(data) + '\n')


class _GuestRunner:
    """On the host: the loop over the tests, with the guest's part at its end."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        collected = list(session.items)
        away = [item for item in collected if _is_marked(item)]
        if not away or session.config.option.collectonly:
            return (yield)
        session.items[:] = [item for item in collected if not _is_marked(item)]
        try:
            result = yield
        finally:
            session.items[:] = collected
        _Replay(session, away).run()
        return result


class _Replay:
    """A runner of items in the guest, which reports them in this session."""

    def __init__(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        self._session = session
        self._items = {item.nodeid: item for item in items}
        self._unfinished = dict.fromkeys(self._items)
        self._partial = b''
        self._console: list[str] = []

    def run(self) -> None:
        config = self._session.config
        with tempfile.TemporaryDirectory(dir=_scratch(config)) as folder:
            names = Path(folder) / 'tests'
            names.write_text(''.join(f'{name}\n' for name in self._items))
            inner = [sys.executable, '-m', 'pytest', f'--rootdir={config.rootpath}', '--color=no']
            inner += ['-p', 'no:cacheprovider', f'@{names}']
            if config.option.maxfail:
                inner.append(f'--maxfail={config.option.maxfail}')
            # Reports take the console; pytest's own output matters only if they don't come.
            shell = f'export {REPORTS}=3; exec "$@" 3>&1 > "$LOG" 2>&1'
            log = Path(folder) / 'log'
            guest = Guest(timeout=GUEST_SECONDS, environment={'LOG': str(log)})
            try:
                status = run(['sh', '-c', shell, 'sh', *inner], guest, self._receive)
            except BuildError as error:
                raise pytest.UsageError(str(error)) from None
            output = log.read_text(errors='replace') if log.exists() else ''
        if self._unfinished and not config.option.maxfail:
            tail = '\n'.join([*self._console, *output.splitlines()][-60:])
            reason = f"the guest's pytest ended with status {status} before this test had:\n{tail}"
            for name in self._unfinished:
                self._report_missing(name, reason)
                reason = 'no report came from the guest, see above'
        if self._session.testsfailed and config.option.maxfail:
            self._session.shouldfail = 'stopping after failures in the guest'

    def _receive(self, octets: bytes) -> None:
        *lines, self._partial = (self._partial + octets).split(b'\n')
        for line in lines:
            try:
                data = json.loads(line)
            except ValueError:
                self._console.append(line.decode(errors='replace'))
            else:
                self._report(data)

    def _report(self, data: dict[str, object]) -> None:
        config = self._session.config
        report = config.hook.pytest_report_from_serializable(config=config, data=data)
        item = self._items[report.nodeid]
        if report.when == 'setup':
            item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        item.ihook.pytest_runtest_logreport(report=report)
        if report.when == 'teardown':
            item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
            self._unfinished.pop(item.nodeid, None)

    def _report_missing(self, name: str, reason: str) -> None:
        item = self._items[name]
        report = pytest.TestReport(
            nodeid=name,
            location=item.location,
            keywords={},
            outcome='failed',
            longrepr=reason,
            when='call',
        )
        item.ihook.pytest_runtest_logreport(report=report)


def _scratch(config: pytest.Config) -> Path:
    folder = config.rootpath / 'build'
    folder.mkdir(exist_ok=True)
    return folder
