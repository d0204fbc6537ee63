"""The keeper's process: `python -m tcpao.second_net`."""

from __future__ import annotations

import sys

from tcpao.second_net.keeper import main

sys.exit(main(sys.argv[1:]))
