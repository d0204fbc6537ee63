"""The suite that compares, octet for octet, the messages of daemons with ExaBGP's examples."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from lab.upstream import protecting
from lab.upstream.recorder import Conversation, Recorder
from lab.upstream.ways import Difference, Result, Way, environment

_FIRST_PORT = 21790
_QUIET_SECONDS = 6.0
_START_SECONDS = 20.0
_MOST_SECONDS = 40.0
_AT_ONCE = 4

_TURNS = 5


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The addresses in a configuration, as far as connecting to a recorder needs them."""

    addresses: frozenset[str]
    as_numbers: dict[str, int]
    md5: str | None

    @classmethod
    def of(cls, text: str) -> Neighbors:
        """Read a configuration's text; the AS number of a template applies to every neighbor."""
        peers = re.findall(r'neighbor\s+([0-9a-fA-F.:]+)\s*\{', text)
        numbers = [int(one) for one in re.findall(r'peer-as\s+(\d+)\s*;', text)]
        pairs = zip(peers, numbers * len(peers) if len(numbers) == 1 else numbers, strict=False)
        local = re.findall(r'local-address\s+([0-9a-fA-F.:]+)\s*;', text)
        password = re.search(r'^\s*md5-password\s+(\S+?)\s*;', text, re.MULTILINE)
        return cls(frozenset([*peers, *local]), dict(pairs), password and password[1])


Sent = dict[Way, list[list[Conversation]]]
"""The conversations of each run, by how ExaBGP was run."""


def record(examples: list[Path], second: Way = Way.HOOKS) -> dict[str, Sent]:
    """Run a daemon for each example, plain and in another way; in a namespace of the caller's.

    Helper processes announce by the clock: where the ways differ, all are run again.
    """
    for address in {one for each in examples for one in Neighbors.of(each.read_text()).addresses}:
        _add_address(address)
    ways = (Way.PLAIN, second)
    found: dict[str, Sent] = {one.name: {way: [] for way in ways} for one in examples}
    for turn in range(_TURNS):
        left = [one for one in examples if turn == 0 or not _is_settled(found[one.name])]
        jobs = [(example, way) for example in left for way in ways]
        if not jobs:
            break
        port = _FIRST_PORT + turn * len(ways) * len(examples)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            sent = pool.map(_run, *zip(*jobs, strict=True), count(port))
            for (example, way), conversations in zip(jobs, sent, strict=True):
                found[example.name][way].append(conversations)
    return found


def compare(recorded: dict[str, Sent]) -> Result:
    """Return the comparison: rows differ if one way never sent what plain ExaBGP sent.

    A case passes if something was sent.
    """
    second = next(way for sent in recorded.values() for way in sent if way is not Way.PLAIN)
    ways = (Way.PLAIN, second)
    return Result(
        f'encoding, octet for octet, {second}',
        passed={way: sum(any(sent[way]) for sent in recorded.values()) for way in ways},
        failed={way: sum(not any(sent[way]) for sent in recorded.values()) for way in ways},
        differences=tuple(
            Difference(name, _told(sent, Way.PLAIN), _told(sent, second))
            for name, sent in recorded.items()
            if not _is_settled(sent)
        ),
        note=f'{sum(_count(sent[second]) for sent in recorded.values())} messages; '
        f'{sum(len(sent[second]) > 1 for sent in recorded.values())} cases were run again',
    )


def _is_settled(sent: Sent) -> bool:
    """Return whether a run of one way sent the same as one of the other, message by message."""
    ours, theirs = sent.values()
    return any(_same(one, other) for one in ours for other in theirs)


def _same(ours: list[Conversation], theirs: list[Conversation]) -> bool:
    """Return whether two runs sent the same.

    Connections may come in any order; of a cut connection only the common part is compared.
    """
    if len(ours) != len(theirs):
        return False
    pairs = zip(
        sorted(ours, key=lambda one: one.messages),
        sorted(theirs, key=lambda one: one.messages),
        strict=True,
    )
    return all(_agree(one, other) for one, other in pairs)


def _agree(one: Conversation, other: Conversation) -> bool:
    common = min(len(one.messages), len(other.messages))
    if not (one.is_cut and other.is_cut) and len(one.messages) != len(other.messages):
        return False
    return one.messages[:common] == other.messages[:common]


def _count(runs: list[list[Conversation]]) -> int:
    return sum(len(one.messages) for one in runs[0])


def _told(sent: Sent, way: Way) -> str:
    others = {one for each in sent if each is not way for one in _distinct(sent[each])}
    only = sorted(_distinct(sent[way]) - others)
    first = f'; only here: {only[0][0]} {only[0][1].hex()}' if only else ''
    return f'{[[len(one.messages) for one in run] for run in sent[way]]} messages{first}'


def _distinct(runs: list[list[Conversation]]) -> set[tuple[int, bytes]]:
    return {message for run in runs for one in run for message in one.messages}


def _run(example: Path, way: Way, port: int) -> list[Conversation]:
    neighbors = Neighbors.of(example.read_text())
    recorder = Recorder(port, neighbors.as_numbers)
    if way is Way.PROTECTED:
        example = protecting.protected(example)
        for address in neighbors.addresses:
            recorder.expect_ao(address)
    elif neighbors.md5 is not None:
        for address in neighbors.addresses:
            recorder.expect_md5(address, neighbors.md5)
    settings = environment(
        tcp_port=str(port), tcp_attempts='1', log_enable='false', ikev2_secondnet='false'
    )
    with running([way.program, 'server', str(example)], settings, example.parent) as process:
        begin = time.monotonic()
        while time.monotonic() - begin < _MOST_SECONDS and process.poll() is None:
            patience = _QUIET_SECONDS if recorder.conversations else _START_SECONDS
            if time.monotonic() - recorder.last > patience:
                break
            time.sleep(0.1)
        else:
            for one in recorder.conversations:
                one.is_cut = process.poll() is None
        # The NOTIFICATION at the end of a daemon is not an example's; plain ExaBGP sends none.
        recorder.close()
    return recorder.conversations


@contextlib.contextmanager
def running(
    command: list[str], settings: dict[str, str], folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a daemon and its helper processes; end them with the context."""
    process = subprocess.Popen(
        command,
        env=settings,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, number)
                process.wait(5)


def _add_address(address: str) -> None:
    version, length = ('-6', '128') if ':' in address else ('-4', '32')
    command = ['ip', version, 'address', 'add', f'{address}/{length}', 'dev', 'lo']
    subprocess.run(command, capture_output=True, check=False)
