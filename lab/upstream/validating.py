"""ExaBGP's example configurations through `validate`."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.upstream.ways import Difference, Result, Way, environment, settled

_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Outcome:
    code: int
    text: str

    def beside(self, other: _Outcome) -> str:
        """Return the exit code and the first line that `other` does not have."""
        lines = [one for one in self.text.splitlines() if one not in other.text.splitlines()]
        return f'exit {self.code}: {lines[0] if lines else "the same lines"}'


def run(examples: list[Path]) -> Result:
    """Compare exit code and every line; check routes and neighbors as ExaBGP's own suite does."""
    outcomes: Mapping[Way, dict[str, _Outcome]] = {
        way: {example.name: _validate(way, example) for example in examples}
        for way in (Way.PLAIN, Way.HOOKS)
    }
    plain, hooks = outcomes[Way.PLAIN], outcomes[Way.HOOKS]
    return Result(
        'validate',
        passed={way: sum(one.code == 0 for one in outcomes[way].values()) for way in outcomes},
        failed={way: sum(one.code != 0 for one in outcomes[way].values()) for way in outcomes},
        differences=tuple(
            Difference(name, plain[name].beside(hooks[name]), hooks[name].beside(plain[name]))
            for name in plain
            if plain[name] != hooks[name]
        ),
    )


def _validate(way: Way, example: Path) -> _Outcome:
    done = subprocess.run(
        [way.program, 'validate', '-n', '-r', '-v', str(example)],
        env=environment(),
        cwd=example.parent,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    return _Outcome(done.returncode, settled(done.stdout + done.stderr))
