"""The command line over pipes, against something that answers as ExaBGP's helper does."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.exabgp_cli import CommandLine, CommandLineError

VERSION = 'exabgp 5.0.15\ndone\n'


@contextmanager
def helper(folder: Path, answers: Mapping[str, str], first: str = '') -> Iterator[None]:
    """Says `first` when it is asked anything, and then the answers."""
    for name in ('exabgp.in', 'exabgp.out'):
        os.mkfifo(folder / name)
    # Both ends, so that neither open() waits for the other side.
    commands = os.fdopen(os.open(folder / 'exabgp.in', os.O_RDWR), 'rb', buffering=0)
    replies = os.open(folder / 'exabgp.out', os.O_RDWR)

    def serve() -> None:
        ahead = first
        for line in commands:
            command = line.decode().rstrip('\n')
            if command == 'end':
                return
            os.write(replies, (ahead + answers[command]).encode())
            ahead = ''

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        with (folder / 'exabgp.in').open('wb') as pipe:
            pipe.write(b'end\n')
        thread.join()
        commands.close()
        os.close(replies)


def test_answer_is_the_lines_before_done(tmp_path: Path) -> None:
    answers = {'version': VERSION, 'show': 'one\ntwo\ndone\n', 'nothing': 'done\n'}
    with helper(tmp_path, answers), CommandLine(tmp_path) as line:
        assert line.ask('show') == ['one', 'two']
        assert line.ask('nothing') == []
        assert line.ask('show') == ['one', 'two']


def test_late_answer_to_the_helper_is_not_ours(tmp_path: Path) -> None:
    answers = {'version': VERSION, 'show': 'one\ndone\n'}
    with helper(tmp_path, answers, first='done\n'), CommandLine(tmp_path) as line:
        assert line.ask('show') == ['one']


def test_refused_command_is_an_error(tmp_path: Path) -> None:
    answers = {'version': VERSION, 'bogus': 'unknown\nerror\n'}
    with (
        helper(tmp_path, answers),
        CommandLine(tmp_path) as line,
        pytest.raises(CommandLineError, match='bogus: refused: unknown'),
    ):
        line.ask('bogus')


def test_command_fails_when_the_daemon_does_not_answer(tmp_path: Path) -> None:
    with (
        helper(tmp_path, {'version': ''}),
        CommandLine(tmp_path) as line,
        pytest.raises(CommandLineError, match='no answer in time'),
    ):
        line.ask('show', seconds=0.1)
