"""ExaBGP's unit tests, which know nothing of our hooks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from lab.upstream.ways import Difference, Result, Way, environment, failed_in_both


def run(folders: list[Path], work: Path) -> Result:
    """Run all tests below `folders`; a file that cannot be imported is a failed test."""
    outcomes = {way: _outcomes(folders, way, work) for way in (Way.PLAIN, Way.HOOKS)}
    plain, hooks = outcomes[Way.PLAIN], outcomes[Way.HOOKS]
    return Result(
        'unit',
        passed={way: sum(not one for one in found.values()) for way, found in outcomes.items()},
        failed={way: sum(bool(one) for one in found.values()) for way, found in outcomes.items()},
        differences=tuple(
            Difference(name, plain.get(name, 'is not there'), hooks.get(name, 'is not there'))
            for name in sorted({*plain, *hooks})
            if plain.get(name) != hooks.get(name)
        ),
        note=failed_in_both(plain, hooks),
    )


def _outcomes(folders: list[Path], way: Way, work: Path) -> dict[str, str]:
    """Return the failure of each test by its name; empty for a test that passed."""
    found: dict[str, str] = {}
    for number, folder in enumerate(folders):
        report = work / f'unit-{way.replace(" ", "-")}-{number}.xml'
        command = [
            sys.executable,
            '-m',
            'pytest',
            '-q',
            '-c',
            '/dev/null',
            '--rootdir',
            str(folder),
        ]
        command += ['-p', 'no:cacheprovider', '--continue-on-collection-errors']
        command += ['-o', 'python_files=*.py', f'--junitxml={report}']
        if way is Way.HOOKS:
            command += ['-p', 'lab.upstream.with_hooks']
        subprocess.run(
            [*command, str(folder)],
            env=environment() | {'PYTHONPATH': str(Path(__file__).parents[2])},
            cwd=folder,
            capture_output=True,
            check=False,
        )
        for case in ElementTree.parse(report).iter('testcase'):
            name = f'{case.get("classname")}.{case.get("name")}'
            wrong = [one for one in case if one.tag in ('failure', 'error')]
            found[name] = wrong[0].get('message', 'failed').splitlines()[0] if wrong else ''
    return found
