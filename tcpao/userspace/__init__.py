"""TCP-AO outside the TCP stack: packets of protected connections pass a small process of ours.

A netfilter queue hands the packets over. Outgoing segments are signed after TCP has made them,
incoming segments are verified before TCP sees them (a "bump in the wire"); the peer can't tell the
difference.

- `connections` is the packet path without I/O: octets in, octets or a drop out; `wire` has the
  formats.
- `process` runs that path on a queue (`netlink`) behind rules (`rules`), apart from the daemon's
  interpreter.
- `client` is the daemon's side; `protocol` has the messages between the two.
"""
