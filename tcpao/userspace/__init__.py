"""TCP-AO outside the TCP stack: packets of protected connections pass a small process of ours.

A netfilter queue hands them over. What leaves is signed after TCP has made it, what arrives is
verified before TCP sees it (a "bump in the wire"); the peer can't tell the difference.

- `core` is the packet path without I/O: octets in, octets or a drop out. Around it `packet`,
  `options`, `signing`, `keyring`, `connection`, `listening` and `icmp`.
- `process` runs the core on a queue (`nfqueue`) behind rules (`rules`), apart from the daemon's
  interpreter. `channel` and `messages` are the private way between the two.
- `sockets`, `installer` and `backend` are the daemon's half.
"""
