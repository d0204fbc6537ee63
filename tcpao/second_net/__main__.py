"""`python -m tcpao.second_net`: the keeper's process."""

from __future__ import annotations

import sys

from tcpao.second_net.keeper import main

sys.exit(main(sys.argv[1:]))
