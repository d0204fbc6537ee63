"""ExaBGP's functional suite: a daemon with an example, and ExaBGP's own program as its peer.

The peer compares what it is sent with the messages that the suite expects (`qa/ci`, as of ExaBGP
4.2)."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

from lab.upstream.encoding import running
from lab.upstream.ways import Difference, Result, Way, environment, failed_in_both

_FIRST_PORT = 31790
_SECONDS = 30.0
_AT_ONCE = 4
_TURNS = 3
_PASSED = 'successful'


def run(tests: Path, examples: Path) -> Result:
    """Run each case, with the release's configuration, or the suite's where it has none."""
    found = {one.stem: one for one in sorted((tests / 'qa' / 'ci').glob('*.ci'))}
    outcomes: dict[Way, dict[str, str]] = {Way.PLAIN: {}, Way.HOOKS: {}}
    ports = count(_FIRST_PORT)
    for turn in range(_TURNS):
        # The suite gives up after some seconds: what differs is run again, with less beside it.
        plain, hooks = outcomes.values()
        left = [name for name in found if turn == 0 or bool(plain[name]) != bool(hooks[name])]
        for way, told in outcomes.items():
            with ThreadPoolExecutor(_AT_ONCE if turn == 0 else 1) as pool:
                cases = pool.map(
                    lambda name, port, way=way: _case(found[name], tests, examples, way, port),
                    left,
                    ports,
                )
                told.update(zip(left, cases, strict=True))
    plain, hooks = outcomes[Way.PLAIN], outcomes[Way.HOOKS]
    return Result(
        'functional',
        passed={way: sum(not one for one in outcomes[way].values()) for way in outcomes},
        failed={way: sum(bool(one) for one in outcomes[way].values()) for way in outcomes},
        differences=tuple(
            Difference(name, plain[name] or 'passed', hooks[name] or 'passed')
            for name in plain
            if bool(plain[name]) != bool(hooks[name])
        ),
        note=failed_in_both(plain, hooks),
    )


def _case(case: Path, tests: Path, examples: Path, way: Way, port: int) -> str:
    """Return the last output of the suite's peer, or nothing if the case passed."""
    settings = environment(tcp_port=str(port), log_enable='false')
    names = case.read_text().splitlines()[0].split()
    folders = [examples, tests / 'etc' / 'exabgp']
    configurations = [
        str(next(one / name for one in folders if (one / name).is_file())) for name in names
    ]
    peer = subprocess.Popen(
        [sys.executable, str(tests / 'qa' / 'sbin' / 'bgp'), str(case.with_suffix('.msg'))],
        env=settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with running([way.program, 'server', *configurations], settings, examples):
        try:
            told, _ = peer.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            peer.kill()
            told, _ = peer.communicate()
    return '' if _PASSED in told else (told.strip().splitlines() or ['nothing came'])[-1].strip()
