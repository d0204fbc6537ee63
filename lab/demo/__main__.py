"""The demo, from nothing to a verdict: `python -m lab.demo`. Exit status 0 if all checks pass.

Runs on this host: under its kernel's TCP-AO, or else with the packet process that protects in user
space. `--guest` has it run under a kernel with TCP-AO, in a User Mode Linux if necessary; so does a
host that cannot run the packet process. `--tcp-ao-backend` is as in the configuration.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from threading import Thread

from gatekeeper.reporting.events import EventName, OperatorEvent
from lab.demo import timeline
from lab.demo.places import ALGORITHMS, EVIDENCE, PORTS, SAID, TIMELINE, UNABLE, WIRE
from lab.demo.syns import SynFollower
from lab.demo.timeline import Screen
from lab.demo.where import NowhereError, Where, decide, instead
from lab.tcpao_backend import OPTION, add_option
from lab.tcpao_kernel import run, run_here
from lab.uml.boot import Guest
from lab.uml.build import BuildError
from tcpao.backend import Preference

# A busy machine is slow.
STAGE_SECONDS = 150.0
CHECKS = 'lab.demo.checks'

INTRODUCTION = """\
r1 (10.0.0.1) opens two BGP sessions to r2 (10.0.0.2), one per family, each from its own port:
{sessions}
Every key is negotiated by IKEv2 before the SYN, lives 15 s, and is replaced while routes change.
Times are seconds since the first event; nothing below is scripted output.
"""


class Audience:
    """The receiver of the stage's output: keeps events, shows them, passes the rest on."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._syns = SynFollower(EVIDENCE / WIRE, {port: name for name, port in PORTS.items()})
        self._partial = b''
        self._batch: list[OperatorEvent] = []
        self._ready = False
        self.events: list[OperatorEvent] = []
        self.said: list[str] = []
        """Printed lines that are no events."""

    def receive(self, octets: bytes) -> None:
        """Receive octets of the stage's output, in pieces of any size."""
        *lines, self._partial = (self._partial + octets).split(b'\n')
        for line in lines:
            self._line(line.decode(errors='replace').rstrip('\r'))

    def _line(self, line: str) -> None:
        event = timeline.parse(line)
        if event is not None:
            self._batch.append(event)
        elif line:
            self.said.append(line)
            self._screen.say(line)
        else:
            batch = sorted([*self._batch, *self._syns.news()], key=lambda event: event.time)
            self._batch.clear()
            self.events += batch
            for one in batch:
                self._screen.show(one)
                if one.event is EventName.ROUTE:
                    self._get_ready()

    def _get_ready(self) -> None:
        """Import the checks, which takes a second, while the stage waits for a rekey."""
        if not self._ready:
            self._ready = True
            Thread(target=import_module, args=(CHECKS,), daemon=True).start()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='python -m lab.demo', description=__doc__)
    parser.add_argument(
        '--guest', action='store_true', help='under a kernel with TCP-AO, if need be a guest'
    )
    add_option(parser)
    return parser.parse_args(arguments)


def _play(where: Where, backend: Preference, audience: Audience) -> int:
    """Run the stage and return its exit status. Raises BuildError."""
    command = [sys.executable, '-m', 'lab.demo.stage', OPTION, backend, str(EVIDENCE)]
    runner = run if where.guest else run_here
    return runner(command, Guest(timeout=STAGE_SECONDS), output=audience.receive)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stage, keep its timeline, judge the evidence; return the exit status."""
    started = time.monotonic()
    options = _options(arguments)
    if os.geteuid() != 0:
        print('demo: network namespaces and TCP-AO keys need root', file=sys.stderr)
        return 1
    try:
        where = decide(options.backend, guest=options.guest)
    except NowhereError as error:
        print(f'demo: {error}', file=sys.stderr)
        return 1
    shutil.rmtree(EVIDENCE, ignore_errors=True)
    EVIDENCE.mkdir(parents=True)
    colour = sys.stdout.isatty() and 'NO_COLOR' not in os.environ
    screen = Screen(sys.stdout, colour=colour)
    sessions = '\n'.join(
        f'  {name} from port {port} under {ALGORITHMS[name]}' for name, port in PORTS.items()
    )
    screen.say(INTRODUCTION.format(sessions=sessions))
    audience = Audience(screen)
    try:
        status = _play(where, options.backend, audience)
        if status == UNABLE and not where.guest:
            where = instead(options.backend, audience.said[-1])
            status = _play(where, options.backend, audience)
    except NowhereError as error:
        print(f'demo: {error}', file=sys.stderr)
        return 1
    except BuildError as error:
        print(f'kernel: {error}', file=sys.stderr)
        return 1
    timeline.write(EVIDENCE / TIMELINE, audience.events)
    (EVIDENCE / SAID).write_text(''.join(f'{line}\n' for line in audience.said))
    screen.say(f'\nThis ran {where.words}. What the evidence in {EVIDENCE} says:')
    if status:
        screen.verdict(False, f'the stage ended with status {status}; logs are there')
    outcomes = list(import_module(CHECKS).judge(EVIDENCE))
    for passed, text in outcomes:
        screen.verdict(passed, text)
    good = not status and all(passed for passed, _ in outcomes)
    word = 'All of it holds' if good else 'NOT ALL OF IT HOLDS'
    screen.say(f'{word}; {time.monotonic() - started:.1f} s.')
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
