"""Rules in nftables, by pyroute2: a table of our own for each queue, one chain in, one out.

The chain of outgoing packets comes late, after whatever else may change them on their way out of
this host, for a MAC covers TCP's header; the one of incoming packets comes early.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, suppress
from ipaddress import ip_network
from typing import Any, Final

from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink.nftsocket import NFT_MSG_GETRULE, Cmp, nft_rule_msg
from pyroute2.nftables.expressions import genex
from pyroute2.nftables.main import NFTables

from tcpao.mkt import IPNetwork
from tcpao.userspace.rules import NAME, Kind, RulesError, comment, comment_of, selector_of
from tcpao.userspace.selectors import Selector
from tcpao.userspace.watch import NftablesWatch, Watch

_INET: Final = 1
"""NFPROTO_INET."""
_NFPROTO: Final = {4: 2, 6: 10}

# Priorities (include/uapi/linux/netfilter_ipv4.h): in before mangle, out after all but confirm.
_CHAINS: Final = {'in': ('input', -160), 'out': ('output', 250)}

# enum nft_payload_bases, enum nft_meta_keys, and the register that all of it goes through.
_NETWORK: Final = 1
_TRANSPORT: Final = 2
_META_NFPROTO: Final = 15
_META_L4PROTO: Final = 16
_REGISTER: Final = 1

_TCP: Final = 6
_ICMP: Final = {4: 1, 6: 58}
# Offset and length of source and destination address in the IP header, and its length.
_SOURCE: Final = {4: (12, 4), 6: (8, 16)}
_DESTINATION: Final = {4: (16, 4), 6: (24, 16)}
_HEADER: Final = {4: 20, 6: 40}
_PROTOCOL: Final = {4: 9, 6: 6}
_ICMP_HEADER: Final = 8
_ERRORS: Final = {4: (3,), 6: (1, 2)}
"""ICMP types: destination unreachable, and IPv6's "packet too big"."""

Expression = dict[str, Any]


class NftablesRules:
    """The rules of one queue."""

    kind = Kind.NFTABLES
    without: tuple[str, ...] = ()

    def __init__(self, queue: int) -> None:
        """Raises RulesError if this kernel can't queue from nftables."""
        self._queue = queue
        self._table = comment(queue).replace(' ', '-')
        self._made: set[Selector] = set()
        self._rules = 0
        try:
            self.watch: Watch = NftablesWatch()
        except OSError as error:
            raise RulesError(_said(error)) from None
        try:
            self._nft = NFTables(nfgen_family=_INET)
        except (OSError, NetlinkError) as error:
            self.watch.close()
            raise RulesError(_said(error)) from None
        try:
            self._make_table()
        except (OSError, NetlinkError) as error:
            with suppress(OSError, NetlinkError):
                _delete_table(self._nft, self._table)
            self.close()
            raise RulesError(_said(error)) from None

    def change(self, add: Iterable[Selector], remove: Iterable[Selector]) -> None:
        """See Rules."""
        try:
            for selector in set(add) - self._made:
                self._add(selector)
            self._delete(set(remove) & self._made)
        except (OSError, NetlinkError) as error:
            raise RulesError(_said(error)) from None

    def complete(self) -> bool:
        """See Rules."""
        try:
            return len(_rules_of(self._nft, self._table)) == self._rules
        except NetlinkError as error:
            if error.code == errno.ENOENT:
                return False
            raise RulesError(_said(error)) from None

    def restore(self) -> None:
        """See Rules."""
        made = list(self._made)
        self._made.clear()
        try:
            self._make_table()
        except (OSError, NetlinkError) as error:
            raise RulesError(_said(error)) from None
        self.change(made, ())

    def remove_all(self) -> None:
        """See Rules."""
        try:
            _delete_table(self._nft, self._table)
        except (OSError, NetlinkError) as error:
            raise RulesError(_said(error)) from None
        self._made.clear()

    def close(self) -> None:
        """See Rules."""
        self.watch.close()
        self._nft.close()

    def _make_table(self) -> None:
        _delete_table(self._nft, self._table)
        self._rules = 0
        self._nft.table('add', name=self._table, userdata=comment(self._queue))
        for name, (hook, priority) in _CHAINS.items():
            self._nft.chain(
                'add',
                table=self._table,
                name=name,
                hook=hook,
                type='filter',
                priority=priority,
                policy=1,
            )
        # To nobody: an error here says that there is no `queue`.
        self._nft.chain('add', table=self._table, name='probe')
        self._rule('probe', [], comment(self._queue))

    def _add(self, selector: Selector) -> None:
        text = comment_of(self._queue, selector)
        try:
            self._rule('in', _tcp(selector, incoming=True), text)
            self._rule('out', _tcp(selector, incoming=False), text)
            for kind in _ERRORS[selector.remote.version]:
                self._rule('in', _error(selector, kind), text)
        except NetlinkError:
            self._delete({selector})
            raise
        self._made.add(selector)

    def _rule(self, chain: str, matches: list[Expression], text: str) -> None:
        queue = genex('queue', {'num': self._queue, 'total': 1, 'flags': 0})
        self._nft.rule(
            'insert',
            table=self._table,
            chain=chain,
            expressions=([*matches, queue],),
            # The comment, as nft shows it.
            userdata=text,
        )
        self._rules += 1

    def _delete(self, selectors: set[Selector]) -> None:
        if not selectors:
            return
        names = {comment_of(self._queue, selector) for selector in selectors}
        for rule in _rules_of(self._nft, self._table):
            if rule.get_attr('NFTA_RULE_USERDATA') in names:
                self._nft.rule(
                    'del',
                    table=self._table,
                    chain=rule.get_attr('NFTA_RULE_CHAIN'),
                    handle=rule.get_attr('NFTA_RULE_HANDLE'),
                )
                self._rules -= 1
        self._made -= selectors


def listed() -> dict[int, set[Selector]]:
    """Queues of all tables of ours, and the traffic of each."""
    found: dict[int, set[Selector]] = {}
    # No nftables here, so nothing of ours in it.
    with suppress(OSError, NetlinkError), closing(NFTables(nfgen_family=_INET)) as nft:
        for queue, name in _our_tables(nft).items():
            comments = (rule.get_attr('NFTA_RULE_USERDATA') for rule in _rules_of(nft, name))
            selectors = (selector_of(text) for text in comments if text is not None)
            found[queue] = {selector for selector in selectors if selector is not None}
    return found


def remove_queues(queues: Collection[int]) -> list[str]:
    """See `rules.remove_stale`."""
    found = []
    try:
        with closing(NFTables(nfgen_family=_INET)) as nft:
            for queue, name in _our_tables(nft).items():
                if queue in queues:
                    nft.table('del', name=name)
                    found.append(f'nftables: table inet {name}')
    except NetlinkError as error:
        raise RulesError(_said(error)) from None
    except OSError:
        # No nftables here, so nothing of ours in it.
        return found
    return found


def _our_tables(nft: NFTables) -> dict[int, str]:
    """Names of our tables, by their queue."""
    return {
        int(name.rpartition('-')[2]): name
        for name in _table_names(nft)
        if name.startswith(f'{NAME}-queue-') and name.rpartition('-')[2].isdigit()
    }


def _rules_of(nft: NFTables, table: str) -> list[Any]:
    """A table's rules as the kernel has them."""
    asked = nft_rule_msg()
    asked['attrs'] = [('NFTA_RULE_TABLE', table)]
    return list(nft.request_get(asked, NFT_MSG_GETRULE))


def _table_names(nft: NFTables) -> Iterator[str]:
    for table in nft.get_tables():
        yield table.get_attr('NFTA_TABLE_NAME')


def _delete_table(nft: NFTables, name: str) -> None:
    if name in _table_names(nft):
        nft.table('del', name=name)


# --- expressions ----------------------------------------------------------------------------


def _tcp(selector: Selector, *, incoming: bool) -> list[Expression]:
    version = selector.remote.version
    ours, theirs = (_DESTINATION, _SOURCE) if incoming else (_SOURCE, _DESTINATION)
    our_port, their_port = (2, 0) if incoming else (0, 2)
    found = [*_meta(_META_NFPROTO, _NFPROTO[version]), *_meta(_META_L4PROTO, _TCP)]
    if selector.local is not None:
        found += _address(_NETWORK, *ours[version], ip_network(selector.local))
    found += _address(_NETWORK, *theirs[version], selector.remote)
    found += _octets(_TRANSPORT, our_port, selector.local_port.to_bytes(2, 'big'))
    if selector.remote_port is not None:
        found += _octets(_TRANSPORT, their_port, selector.remote_port.to_bytes(2, 'big'))
    return found


def _error(selector: Selector, kind: int) -> list[Expression]:
    """An ICMP error that quotes one of our packets to the peer."""
    version = selector.remote.version
    quoted = _ICMP_HEADER
    ports = quoted + _HEADER[version]
    found = [*_meta(_META_NFPROTO, _NFPROTO[version]), *_meta(_META_L4PROTO, _ICMP[version])]
    found += _octets(_TRANSPORT, 0, bytes((kind,)))
    if version == 4:
        # A quoted header without options: then its ports stand where they are looked for.
        found += _octets(_TRANSPORT, quoted, b'\x45')
    found += _octets(_TRANSPORT, quoted + _PROTOCOL[version], bytes((_TCP,)))
    if selector.local is not None:
        offset, length = _SOURCE[version]
        found += _address(_TRANSPORT, quoted + offset, length, ip_network(selector.local))
    offset, length = _DESTINATION[version]
    found += _address(_TRANSPORT, quoted + offset, length, selector.remote)
    found += _octets(_TRANSPORT, ports, selector.local_port.to_bytes(2, 'big'))
    if selector.remote_port is not None:
        found += _octets(_TRANSPORT, ports + 2, selector.remote_port.to_bytes(2, 'big'))
    return found


def _meta(key: int, value: int) -> list[Expression]:
    return [genex('meta', {'dreg': _REGISTER, 'key': key}), _equals(bytes((value,)))]


def _octets(base: int, offset: int, value: bytes) -> list[Expression]:
    return [_payload(base, offset, len(value)), _equals(value)]


def _address(base: int, offset: int, length: int, network: IPNetwork) -> list[Expression]:
    found = [_payload(base, offset, length)]
    if network.prefixlen < network.max_prefixlen:
        found.append(
            genex(
                'bitwise',
                {
                    'sreg': _REGISTER,
                    'dreg': _REGISTER,
                    'len': length,
                    'mask': _data(network.netmask.packed),
                    'xor': _data(bytes(length)),
                },
            )
        )
    return [*found, _equals(network.network_address.packed)]


def _payload(base: int, offset: int, length: int) -> Expression:
    expression: Expression = genex(
        'payload', {'dreg': _REGISTER, 'base': base, 'offset': offset, 'len': length}
    )
    return expression


def _equals(value: bytes) -> Expression:
    expression: Expression = genex(
        'cmp', {'sreg': _REGISTER, 'op': Cmp.NFT_CMP_EQ, 'data': _data(value)}
    )
    return expression


def _data(value: bytes) -> Expression:
    return {'attrs': [('NFTA_DATA_VALUE', value)]}


def _said(error: BaseException) -> str:
    return f'the kernel said {error}'
