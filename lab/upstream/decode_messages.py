"""A process of its own: `decode` for each line of input (configuration and octets), with or without
our hooks. The command itself takes one message for each start of Python."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys


def main() -> None:
    """Print a line of JSON with the exit code and the output for each line of input."""
    if sys.argv[1:] == ['hooks']:
        from lab.upstream import with_hooks as with_hooks
    from exabgp.application import decode

    parser = argparse.ArgumentParser()
    decode.setargs(parser)
    for line in sys.stdin:
        configuration, octets = json.loads(line)
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            try:
                code: object = decode.cmdline(parser.parse_args(['-c', configuration, octets]))
            except (Exception, SystemExit) as error:  # what ExaBGP raises is compared too
                code = repr(error)
        print(json.dumps([code, output.getvalue()]), flush=True)


if __name__ == '__main__':
    main()
