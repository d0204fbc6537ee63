"""`python -m lab.upstream`: the table of docs/upstream-suites.md, made anew. As root."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from lab.tcpao_kernel import has_tcp_ao
from lab.upstream import decoding, encoding, functional, protecting, sources, unit, validating
from lab.upstream.ways import Result, Way, table

_SUITES = ('validate', 'unit', 'functional', 'encoding', 'decoding', 'protected')
_INSIDE = 'GATEKEEPER_UPSTREAM_INSIDE'


def main() -> int:
    """Return 1 if a row differs."""
    parser = argparse.ArgumentParser(prog='python -m lab.upstream', description=__doc__)
    parser.add_argument('--work', type=Path, default=Path('build/upstream'))
    parser.add_argument('--tests', type=Path, help="an unpacked source of ExaBGP that has 'qa'")
    parser.add_argument('--only', choices=_SUITES, action='append')
    parser.add_argument('--example', action='append', help='these examples only, by name')
    options = parser.parse_args()
    if _INSIDE not in os.environ:
        # Fetched first: the daemons run in a network of their own, whatever runs on the host.
        sources.distribution(options.work.resolve())
        tests = _tests(options.tests, options.work.resolve())
        return subprocess.call(
            ['unshare', '-n', sys.executable, '-m', 'lab.upstream', *sys.argv[1:]],
            env=os.environ | {_INSIDE: '' if tests is None else str(tests)},
        )
    subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)
    results = list(_results(options))
    print(f'ExaBGP {sources.release()}\n\n{table(results)}')
    return int(any(result.differences for result in results))


def _results(options: argparse.Namespace) -> Iterator[Result]:
    wanted = options.only or _SUITES
    work = options.work.resolve()
    distribution = sources.distribution(work)
    folder = distribution / 'etc' / 'exabgp'
    examples = [
        one
        for one in sorted(folder.glob('*.conf'))
        if not options.example or one.stem in options.example
    ]
    tests = Path(os.environ[_INSIDE]) if os.environ[_INSIDE] else None
    if 'validate' in wanted:
        yield validating.run(examples)
    if 'unit' in wanted:
        yield unit.run(
            [one for one in (distribution / 'tests', *_unit(tests)) if one.is_dir()], work
        )
    if 'functional' in wanted and tests is not None and (tests / 'qa' / 'ci').is_dir():
        yield functional.run(tests, folder)
    if 'encoding' in wanted or 'decoding' in wanted:
        recorded = encoding.record(examples)
        yield encoding.compare(recorded)
        if 'decoding' in wanted:
            yield decoding.run(decoding.cases(recorded, folder))
    if 'protected' in wanted:
        if has_tcp_ao():
            moved = protecting.prepare(examples, work / 'protected')
            yield encoding.compare(encoding.record(moved, Way.PROTECTED))
        else:
            print('NO PROTECTED EXAMPLES: this kernel has no TCP-AO', file=sys.stderr)


def _tests(given: Path | None, work: Path) -> Path | None:
    """Return the folder of ExaBGP's suites, or None with a warning if it cannot be had."""
    if given is not None:
        return given.resolve()
    found, reason = sources.debian(work / 'debian')
    if found is None:
        print(
            f'NO SUITES of ExaBGP {sources.release()}: {reason}\n'
            '  Only the examples are compared, and the tests of the source distribution.\n'
            '  Give an unpacked source that has qa: --tests FOLDER',
            file=sys.stderr,
        )
    return found


def _unit(tests: Path | None) -> list[Path]:
    return [] if tests is None else [tests / 'tests', tests / 'qa' / 'tests']


if __name__ == '__main__':
    sys.exit(main())
