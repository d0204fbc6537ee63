"""The verb `doctor` of the command `gatekeeper`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from gatekeeper.tools.doctor.checks import Finding, is_able, judge


def add_verb(verbs: Any) -> None:
    """Add `doctor` to the subparsers of the command line."""
    verb = verbs.add_parser(
        'doctor',
        help='what this host can do, what it cannot, and what to do about it',
        description='Exit status 0 if protected sessions can come up on this host, 1 if not.',
    )
    verb.add_argument('--json', action='store_true', help='one object for each finding')
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Examine, judge and print; return the exit status."""
    # Imports netlink and other modules that are only needed to examine the host, not for
    # `gatekeeper --help`.
    from gatekeeper.tools.doctor.host import look

    findings = judge(look())
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        print('\n'.join(lines_of(findings)))
    return 0 if is_able(findings) else 1


def lines_of(findings: list[Finding]) -> list[str]:
    """Return a line for each finding, and one below it with the advice."""
    width = max(len(finding.subject) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f'{finding.verdict:<8} {finding.subject:<{width}}  {finding.text}')
        if finding.remedy:
            lines.append(f'{"":<8} {"":<{width}}  -> {finding.remedy}')
    able = is_able(findings)
    lines.append('')
    lines.append(
        'protected sessions can come up on this host'
        if able
        else 'no protected session can come up on this host'
    )
    return lines
