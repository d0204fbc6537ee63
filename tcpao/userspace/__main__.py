"""The packet process as a separate program."""

from __future__ import annotations

import sys

from tcpao.userspace.process.startup import main

if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
