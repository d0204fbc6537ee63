"""The keeper on a host where the command is not installed."""

from __future__ import annotations

import sys

from tcpao.second_net import nft
from tcpao.second_net.keeper import main

if __name__ == '__main__':
    nft._ENVIRONMENT['PATH'] = '/nowhere'
    sys.exit(main(sys.argv[1:]))
