"""The keeper on a host where no command is installed."""

from __future__ import annotations

import sys

from tcpao.second_net import nft
from tcpao.second_net.keeper import main
from tcpao.userspace.rules import iptables_command

if __name__ == '__main__':
    nft._ENVIRONMENT['PATH'] = '/nowhere'
    iptables_command.ENVIRONMENT['PATH'] = '/nowhere'
    sys.exit(main(sys.argv[1:]))
