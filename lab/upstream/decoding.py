"""The suite that decodes every message of the examples, whole and with an octet changed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from lab.upstream.encoding import Sent
from lab.upstream.ways import Difference, Result, Way, environment, settled

_DECODED = (1, 2)
"""OPEN and UPDATE: `decode` takes no others."""
_CHANGES = 3
_SEED = 1

Case = tuple[str, str]
"""The path of a configuration, and the octets of a message in hexadecimal."""


def cases(recorded: dict[str, Sent], folder: Path) -> list[Case]:
    """Return each distinct message, whole and changed, with the configuration that sent it."""
    source = random.Random(_SEED)
    found: list[Case] = []
    for name, sent in recorded.items():
        messages = {message for run in sent[Way.PLAIN] for one in run for message in one.messages}
        for kind, body in sorted(messages):
            if kind in _DECODED:
                bodies = [body, *(_changed(body, source) for _ in range(_CHANGES))]
                found += [(str(folder / name), _message(kind, one).hex()) for one in bodies]
    return found


def run(found: Iterable[Case]) -> Result:
    """Return exit code and output of each case; a case passes if it is decoded."""
    found = list(found)
    outcomes = {way: _decode(found, way) for way in (Way.PLAIN, Way.HOOKS)}
    return Result(
        'decoding',
        passed={way: sum(code == 0 for code, _ in outcomes[way]) for way in outcomes},
        failed={way: sum(code != 0 for code, _ in outcomes[way]) for way in outcomes},
        differences=tuple(
            Difference(f'{Path(configuration).name} {octets}', str(plain), str(hooks))
            for (configuration, octets), plain, hooks in zip(
                found, outcomes[Way.PLAIN], outcomes[Way.HOOKS], strict=True
            )
            if plain != hooks
        ),
        note=f'{len(found) // (_CHANGES + 1)} messages, each with {_CHANGES} changes of an octet',
    )


def _decode(found: list[Case], way: Way) -> list[tuple[object, str]]:
    done = subprocess.run(
        [
            *(sys.executable, '-m', 'lab.upstream.decode_messages'),
            'hooks' if way is Way.HOOKS else 'plain',
        ],
        env=environment(log_enable='false') | {'PYTHONPATH': str(Path(__file__).parents[2])},
        input='\n'.join(json.dumps(case) for case in found),
        capture_output=True,
        text=True,
        check=True,
    )
    lines = (json.loads(line) for line in done.stdout.splitlines())
    return [(code, settled(output)) for code, output in lines]


def _changed(body: bytes, source: random.Random) -> bytes:
    octets = bytearray(body)
    octets[source.randrange(len(octets))] = source.randrange(256)
    return bytes(octets)


def _message(kind: int, body: bytes) -> bytes:
    return b'\xff' * 16 + (19 + len(body)).to_bytes(2) + bytes([kind]) + body
