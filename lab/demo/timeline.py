"""Events as they happen, for a person to follow: `timeline.jsonl` and the screen.

Events come from both routers and from the stage, in the one vocabulary of
`gatekeeper.reporting.events`; nothing is judged here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from gatekeeper.reporting.events import EventName, OperatorEvent

Details = dict[str, str | int | float | bool | None]

SESSIONS = {'ipv4 unicast': 'ipv4', 'ipv6 unicast': 'ipv6', None: ''}
_COLOURS = {'r1': '36', 'r2': '35'}
_LOUD = {EventName.REFUSED: '33', EventName.ESTABLISHED: '32', EventName.SYN: '32'}


def parse(line: str) -> OperatorEvent | None:
    """Return an event of `timeline.jsonl`; None if the line isn't one."""
    try:
        data = json.loads(line)
        return OperatorEvent(
            time=float(data['time']),
            router=data['router'],
            session=data['session'],
            event=EventName(data['event']),
            details=data['details'],
        )
    except (ValueError, KeyError, TypeError):
        return None


def write(path: Path, events: Iterable[OperatorEvent]) -> None:
    """Write `timeline.jsonl`: one event a line, in order of time."""
    with path.open('w') as file:
        for event in sorted(events, key=lambda event: event.time):
            file.write(event.to_json() + '\n')


class Screen:
    """A printer of events; colours only on a terminal."""

    def __init__(self, output: TextIO, *, colour: bool) -> None:
        self._output = output
        self._colour = colour
        self._start: float | None = None

    def show(self, event: OperatorEvent) -> None:
        """Print one line: seconds since the first event, router, session, event, meaning."""
        if self._start is None:
            self._start = event.time
        text = tell(event)
        if text is None:
            return
        session = SESSIONS.get(event.session, event.session or '')
        router = self._painted(event.router.ljust(3), _COLOURS.get(event.router, '37'))
        name = self._painted(str(event.event).ljust(13), _LOUD.get(event.event, '0'))
        self.say(f'{event.time - self._start:6.2f} s  {router} {session:5} {name}  {text}')

    def say(self, text: str) -> None:
        """Print a line unchanged."""
        print(text, file=self._output, flush=True)

    def verdict(self, passed: bool, text: str) -> None:
        """Print a line of the summary."""
        word = self._painted('ok  ', '32') if passed else self._painted('FAIL', '1;31')
        self.say(f'  {word}  {text}')

    def _painted(self, text: str, colour: str) -> str:
        return f'\033[{colour}m{text}\033[0m' if self._colour else text


# --- words --------------------------------------------------------------------------------------


def tell(event: OperatorEvent) -> str | None:
    """Return a text for an event; None if the event is not worth a line."""
    teller = _TELLERS.get(event.event)
    return teller(event.details) if teller is not None else str(event.details)


def _bind(d: Details) -> str:
    pinned = 'pinned' if d.get('pinned') else 'chosen by the kernel'
    return f'{d["pair"]} (source port {pinned})'


def _ike(d: Details) -> str:
    direction = 'sent' if d.get('sent') else 'received'
    kind = 'response' if d.get('response') else 'request'
    return f'{kind} {direction}: {d.get("detail", "")}'


def _child_sa(d: Details) -> str:
    asked = 'asked for by us' if d.get('initiator') else 'asked for by the peer'
    return (
        f'CREATE_CHILD_SA: MKT SendID {d["send_id"]} RecvID {d["recv_id"]}, {d["algorithm"]}, '
        f'{d["lifetime"]} s, {asked}'
    )


_BACKENDS = {'kernel': 'by the kernel', 'userspace': 'in user space'}


def _installed(d: Details) -> str:
    return (
        f'MKT SendID {d["send_id"]} RecvID {d["recv_id"]}, {d["algorithm"]}, '
        f'protected {_BACKENDS.get(str(d["backend"]), d["backend"])}'
    )


def _syn(d: Details) -> str | None:
    if not d.get('captured'):
        return f'connect() {d["pair"]}'
    return (
        f'on the wire {d["pair"]}: TCP-AO KeyID {d["key_id"]} RNextKeyID {d["rnext_key_id"]} '
        f'MAC {d["mac"]}'
    )


def _established(d: Details) -> str:
    return f'TCP is up and proven to be under the MKT with SendID {d["send_id"]}'


def _open(d: Details) -> str:
    return 'sent' if d.get('sent') else 'received'


def _route(d: Details) -> str | None:
    if 'samples' in d:
        return (
            f'{d["prefix"]}: there in {d["present"]} of {d["samples"]} samples, longest wait '
            f'between two {d["longest_gap"]} s; session up for {d["uptime"]} s'
        )
    return f'{d["prefix"]} {"is there" if d.get("present") else "IS GONE"}'


def _rekey_started(d: Details) -> str:
    return f'the MKT with SendID {d["send_id"]} gets a successor, SendID {d["successor"]}'


def _rnext_moved(d: Details) -> str:
    return f'the peer is asked to sign under KeyID {d["recv_id"]}'


def _removed(d: Details) -> str:
    return f'the MKT with SendID {d["send_id"]} RecvID {d["recv_id"]} is off the connection'


def _refused(d: Details) -> str:
    if 'impostor' in d:
        return f'impostor, {d["impostor"]}: {d["outcome"]}'
    return ', '.join(str(d[name]) for name in ('step', 'cause', 'text') if d.get(name))


def _end(d: Details) -> str:
    return str(d.get('reason') or d.get('cause'))


_TELLERS: dict[EventName, Callable[[Details], str | None]] = {
    EventName.BIND: _bind,
    EventName.IKE_INIT: _ike,
    EventName.IKE_AUTH: _ike,
    EventName.CHILD_SA: _child_sa,
    EventName.MKT_INSTALLED: _installed,
    EventName.SYN: _syn,
    EventName.ESTABLISHED: _established,
    EventName.OPEN: _open,
    EventName.ROUTE: _route,
    EventName.REKEY_STARTED: _rekey_started,
    EventName.RNEXT_MOVED: _rnext_moved,
    EventName.MKT_REMOVED: _removed,
    EventName.REFUSED: _refused,
    EventName.EXPIRES: _end,
    EventName.END: _end,
}
