"""The command `gatekeeper verify`: the TCP-AO MACs of a capture, for people and for scripts.

Only the command line: the verification is in `tcpao.verification.verify`, its texts in
`tcpao.verification.report`.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from gatekeeper.tools.errors import ToolError
from keymaterial import KeyFileError
from tcpao.kdf import KmacUnavailableError
from tcpao.verification.capture import CaptureError
from tcpao.verification.connection import NO_ISNS, GivenIsns
from tcpao.verification.known_keys import KnownKeyError, parse_endpoint, read_known_keys
from tcpao.verification.report import Report, verify_capture

NOT_GOOD = 1
"""Exit status: something is bad or unverifiable, or nothing was verified."""

_NUMBER = re.compile(r'0x[0-9a-f]{1,8}|[0-9]{1,10}', re.IGNORECASE | re.ASCII)


class _Isn(argparse.Action):
    """Parser of four words: the client's end, the server's end, and the ISN of each."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        assert isinstance(values, list)
        try:
            given = GivenIsns(
                client=parse_endpoint(values[0]),
                server=parse_endpoint(values[1]),
                client_isn=_isn(values[2]),
                server_isn=_isn(values[3]),
            )
        except ValueError as error:
            raise argparse.ArgumentError(self, str(error)) from None
        namespace.isn = [*namespace.isn, given]


def _isn(word: str) -> int:
    if not _NUMBER.fullmatch(word):
        raise ValueError(f'{word!r} is not an ISN: a number, or 0x and up to 8 hex digits')
    number = int(word, 16 if word[:2].lower() == '0x' else 10)
    if number >= 1 << 32:
        raise ValueError(f'{word} has more than 32 bits')
    return number


def add_verb(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `verify` to the command line."""
    verify = verbs.add_parser(
        'verify',
        help='verify the TCP-AO MAC of every segment of a capture',
        description='Verify the TCP-AO MAC of every TCP segment of a pcap or pcapng file. Exit '
        'status 0: something was verified, nothing was bad, everything could be verified; a last '
        'packet that is cut, as by a tcpdump that was killed, is left out.',
    )
    verify.add_argument('capture', type=Path, metavar='CAPTURE', help='pcap or pcapng')
    verify.add_argument(
        '--keys',
        type=Path,
        required=True,
        metavar='FILE',
        help='private file (mode 0600): a JSON list of objects with algorithm and master_key '
        '(hex); session, local, remote, tcp_options, send_id and recv_id, as the side that '
        'opened the connection sees them, narrow it down',
    )
    verify.add_argument('--json', action='store_true', help='JSON instead of a table')
    verify.add_argument(
        '--require-all',
        action='store_true',
        help='a connection without any TCP-AO counts against it too',
    )
    verify.add_argument(
        '--isn',
        nargs=4,
        action=_Isn,
        default=[],
        metavar=('CLIENT', 'SERVER', 'CLIENT-ISN', 'SERVER-ISN'),
        help='initial sequence numbers of a connection whose SYNs the capture lacks, like '
        '10.0.0.1:40001 [fd00::2]:179 0x1a2b3c4d 305419896; may be repeated',
    )
    verify.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Verify and print; return the exit status. Raises ToolError if verification is impossible."""
    try:
        keys = read_known_keys(arguments.keys)
        report = verify_capture(arguments.capture, keys, arguments.isn, keep=False)
    except (KeyFileError, KnownKeyError, CaptureError, KmacUnavailableError) as error:
        raise ToolError(str(error)) from None
    if arguments.json:
        print(json.dumps(report.to_json()))
    else:
        print(report.to_text())
        for line in _hints(report, require_all=arguments.require_all):
            print(line)
    return 0 if report.passed(require_all=arguments.require_all) else NOT_GOOD


def _hints(report: Report, *, require_all: bool) -> list[str]:
    """Return advice: what to try next."""
    hints = []
    if report.cut_off:
        hints.append(
            'the capture breaks off: its last packet is cut, and left out of these numbers'
        )
    # A SYN without an answer is another case.
    problems = (v for c in report.connections for v in c.tally.problems(has_ao=c.has_ao))
    if any(verdict.reason == NO_ISNS for verdict in problems):
        hints.append('a connection began before the capture: give its ISNs with --isn')
    if report.unsigned and require_all:
        hints.append('connections without any TCP-AO are not allowed (--require-all)')
    if not report.good and not report.bad and not report.unverifiable:
        hints.append('nothing was verified: no segment has TCP-AO')
    return hints
