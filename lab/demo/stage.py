"""The events of the demo, under the kernel with TCP-AO: `python -m lab.demo.stage FOLDER`.

Every event is a line of JSON on standard output; an empty line ends a group of events. Captures and
keys go to FOLDER. Nothing is judged here; a failure ends the stage with a reason.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from gatekeeper.reporting.events import EventName, OperatorEvent
from lab.demo import timeline
from lab.demo.capture import Capture, CaptureError
from lab.demo.changes import RouteChanges
from lab.demo.impostor import Impostor, diverted
from lab.demo.places import CONFIGURATION, KEYS, PREFIXES, REFUSED, ROUTERS, UNABLE, WIRE
from lab.demo.watch import RouteWatch
from lab.exabgp_cli import CommandLine, CommandLineError
from lab.keys import stage as staged
from lab.tcpao_backend import add_option, put_under
from lab.topology import Lab, LabError, Topology
from lab.unprivileged import daemon_environment
from tcpao.backend import Preference
from tcpao.backend_choice import choose
from tcpao.userspace.process.startup import why_unable

SAMPLE_SECONDS = 0.1
# Bounds on the time of each part, in seconds; a busy machine is slow.
UP_WITHIN = 60.0
REKEYED_WITHIN = 30.0
ATTACKED_WITHIN = 30.0

# In a router's own file system; each router has its own /run.
EVENTS = 'run/timeline.jsonl'
MASTER_KEYS = 'run/keys.json'
ENVIRONMENT = {
    'exabgp_ikev2_timeline': f'/{EVENTS}',
    'exabgp_ikev2_keytable': f'/{MASTER_KEYS}',
}


class StageError(Exception):
    """An event did not happen in time, or a router has ended."""


class Journal:
    """A router's events, read from its daemon's file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def news(self) -> Iterator[OperatorEvent]:
        """Yield the events since the last call; nothing while there is no file."""
        try:
            with self._path.open('rb') as file:
                file.seek(self._offset)
                whole, newline, _ = file.read().rpartition(b'\n')
        except FileNotFoundError:
            return
        self._offset += len(whole) + len(newline)
        for line in whole.decode().splitlines():
            event = timeline.parse(line)
            if event is None:
                raise StageError(f'{self._path}: not an event: {line}')
            yield event


class Stage:
    """A lab that is up, and all its events."""

    def __init__(self, lab: Lab, folder: Path, backend: Preference) -> None:
        self._lab = lab
        self._backend = backend
        self._folder = folder
        self._roots = {name: lab.node(name).proc / 'root' for name in ROUTERS}
        self._journals = [Journal(self._roots[name] / EVENTS) for name in ROUTERS]
        self._watch: RouteWatch | None = None
        self._changes: RouteChanges | None = None
        self._impostor: Impostor | None = None
        self.seen: list[OperatorEvent] = []

    def run(self) -> None:
        """Run the whole demo.

        Raises StageError, LabError, CaptureError, CommandLineError or EOFError.
        """
        wire = Capture(self._lab.node('r1'), 'eth1', self._folder / WIRE)
        refused = Capture(self._lab.node('r2'), 'eth2', self._folder / REFUSED)
        captured_from = time.time()
        self._until(self._both_up, UP_WITHIN, 'both sessions up with their routes')
        node = self._lab.node('impostor')
        # Started now, when nothing waits for it.
        impostor = self._impostor = Impostor(node, self._backend)
        impostor.order('stranger')
        self._changes = RouteChanges(CommandLine(self._roots['r1'] / 'run/exabgp'))
        self._until(self._both_rekeyed, REKEYED_WITHIN, 'both first keys replaced and removed')
        self._changes = None
        self._until(lambda: not impostor.busy, ATTACKED_WITHIN, 'the impostors to give up')
        self._summarise()
        packets = wire.close()
        self._emit(_end(name, f'{WIRE} is closed', captured_from, packets) for name in ROUTERS)
        with diverted(self._lab.node('r2'), node):
            impostor.order('r1', *self._ids_in_use())
            self._until(lambda: not impostor.busy, ATTACKED_WITHIN, 'the impostors to give up')
        self._impostor = None
        self._tick()
        self._still_up()
        refused.close()
        self._keep_keys()
        for name in ROUTERS:
            # All events are written; an orderly end would take seconds.
            self._lab.node(name).kill()
            shutil.copy(self._lab.node(name).log, self._folder)

    # --- one tick after the other -----------------------------------------------------------

    def _until(self, reached: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        due = time.monotonic()
        while True:
            self._tick()
            if reached():
                return
            if time.monotonic() > deadline:
                raise StageError(f'waited {seconds:g} s for {what}')
            due = max(due + SAMPLE_SECONDS, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))

    def _tick(self) -> None:
        for name in ROUTERS:
            _ = self._lab.node(name).pid
        events = [event for journal in self._journals for event in journal.news()]
        events += self._impostors_news()
        if self._watch is not None:
            events += self._watch.sample()
        elif self._named(EventName.OPEN):
            self._watch = RouteWatch(CommandLine(self._roots['r2'] / 'run/exabgp'))
        self._emit(events)
        if self._changes is not None and self._named(EventName.REKEY_STARTED):
            self._changes.next()

    def _emit(self, events: Iterable[OperatorEvent]) -> None:
        batch = sorted(events, key=lambda event: event.time)
        if batch:
            self.seen += batch
            print('\n'.join(event.to_json() for event in batch), end='\n\n', flush=True)

    # --- conditions to wait for -----------------------------------------------------------------

    def _both_up(self) -> bool:
        return self._watch is not None and self._watch.complete

    def _both_rekeyed(self) -> bool:
        wanted = {(router, session) for router in ROUTERS for session in PREFIXES}
        # Of two successors requested at once, one is removed too, and earlier.
        replaced = {_key_of(event) for event in self._named(EventName.REKEY_STARTED)}
        removed = {_key_of(event) for event in self._named(EventName.MKT_REMOVED)}
        return {(router, session) for router, session, _ in replaced & removed} >= wanted

    def _named(self, name: EventName) -> list[OperatorEvent]:
        return [event for event in self.seen if event.event is name]

    # --- impostors --------------------------------------------------------------------------

    def _impostors_news(self) -> Iterator[OperatorEvent]:
        if self._impostor is None:
            return
        for line in self._impostor.news():
            event = timeline.parse(line)
            if event is None:
                raise StageError(f'the impostor says: {line}')
            yield event

    def _ids_in_use(self) -> tuple[int, int]:
        """Return SendID and RecvID of the newest key, seen from the opener."""
        newest = [
            event.details
            for event in self.seen
            if event.event is EventName.MKT_INSTALLED and event.router == 'r1'
        ][-1]
        send_id, recv_id = newest['send_id'], newest['recv_id']
        assert isinstance(send_id, int)
        assert isinstance(recv_id, int)
        return send_id, recv_id

    # --- the end ----------------------------------------------------------------------------

    def _summarise(self) -> None:
        assert self._watch is not None
        self._watch.ask_uptimes()
        self._emit(self._watch.summary())

    def _still_up(self) -> None:
        """Check that the sessions are the same as before all attacks."""
        self._summarise()
        self._emit(
            OperatorEvent(time.time(), name, None, EventName.END, {'reason': 'the demo ends'})
            for name in ROUTERS
        )

    def _keep_keys(self) -> None:
        keys: list[dict[str, object]] = []
        for name in ROUTERS:
            for key in json.loads((self._roots[name] / MASTER_KEYS).read_text()):
                if key not in keys:
                    keys.append(key)
        path = self._folder / KEYS
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), 'w') as file:
            json.dump(keys, file, indent=1)
            file.write('\n')


def _key_of(event: OperatorEvent) -> tuple[str, str | None, object]:
    """Return router, session and SendID."""
    return event.router, event.session, event.details['send_id']


def _end(router: str, reason: str, captured_from: float, packets: int) -> OperatorEvent:
    details: dict[str, str | int | float | bool | None]
    details = {'reason': reason, 'captured_from': captured_from, 'packets': packets}
    return OperatorEvent(time.time(), router, None, EventName.END, details)


def main() -> int:
    """Run the stage; return 0 on success.

    Returns UNABLE if nothing was begun because packets can't be protected in user space, which is
    needed here or was asked for.
    """
    parser = argparse.ArgumentParser(prog='python -m lab.demo.stage', description=__doc__)
    add_option(parser)
    parser.add_argument('folder', type=Path)
    options = parser.parse_args()
    if choose(options.backend).name == Preference.USERSPACE and (reason := why_unable()):
        print(reason, file=sys.stderr)
        return UNABLE
    # Nodes have other working directories.
    folder = options.folder.resolve()
    with tempfile.TemporaryDirectory(prefix='demo.') as scratch:
        file = staged(CONFIGURATION, Path(scratch) / 'two-routers')
        put_under(file.parent, options.backend)
        topology = Topology.load(file)
        logs = Path(scratch) / 'logs'
        try:
            with topology.up(logs, daemon_environment() | ENVIRONMENT) as lab:
                Stage(lab, folder, options.backend).run()
            return 0
        except (StageError, LabError, CaptureError, CommandLineError, EOFError) as error:
            print(f'demo: {error}', file=sys.stderr)
            for log in logs.glob('r*.log'):
                shutil.copy(log, folder)
            return 1


if __name__ == '__main__':
    sys.exit(main())
