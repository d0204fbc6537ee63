"""Encoding of the messages between the daemon and its packet process."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from ipaddress import ip_address, ip_network
from struct import Struct
from typing import Any, Final

from keymaterial import Secret
from tcpao.installer import Cause
from tcpao.key_socket import InstalledKey, Key, SocketState
from tcpao.mkt import ALGORITHMS, SocketPair
from tcpao.userspace.connections.sockets_table import SocketName
from tcpao.userspace.protocol.messages import (
    PIECE,
    Add,
    AddAll,
    Delete,
    DeleteAll,
    Done,
    Listen,
    Loaded,
    NotReady,
    Read,
    Ready,
    Refused,
    Release,
    Reply,
    Request,
    SetRNext,
    State,
    Stop,
    Wait,
)

_LENGTH: Final = Struct('!I')


def encode(request: Request) -> bytes:
    """Return a request as octets."""
    fields: dict[str, Any] = {'request': type(request).__name__}
    secret = b''
    match request:
        case Add(name, key, select, fresh):
            fields |= _name(name) | _key(key) | {'select': select, 'fresh': fresh}
            secret = key.master_key.reveal()
        case AddAll(keys):
            secrets = [key.master_key.reveal() for _, key in keys]
            secret = b''.join(secrets)
            fields |= _names(name for name, *_ in keys)
            fields['keys'] = [_key(key) for _, key in keys]
            fields['lengths'] = list(map(len, secrets))
        case DeleteAll(keys):
            fields |= _names(name for name, *_ in keys)
            fields['keys'] = [(str(peer), *ids) for _, peer, *ids in keys]
        case Delete(name, peer, send_id, recv_id, switch_to):
            fields |= _name(name)
            fields |= {'peer': str(peer), 'ids': [send_id, recv_id], 'switch_to': switch_to}
        case SetRNext(name, recv_id):
            fields |= _name(name) | {'recv_id': recv_id}
        case Listen(name) | Read(name) | Release(name):
            fields |= _name(name)
        case Loaded(peers):
            fields['peers'] = sorted(map(str, peers))
        case Stop():
            pass
    text = json.dumps(fields).encode()
    return _LENGTH.pack(len(text)) + text + secret


def pieces(octets: bytes) -> Iterator[bytes]:
    """Yield the datagrams of a request: an octet that says whether more follow, and a part."""
    for at in range(0, len(octets), PIECE):
        yield bytes((at + PIECE < len(octets),)) + octets[at : at + PIECE]


def decode(octets: bytes) -> Request:
    """Return a request from its octets. Raises ValueError or KeyError for malformed octets."""
    end = _LENGTH.size + _LENGTH.unpack_from(octets)[0]
    fields = json.loads(octets[_LENGTH.size : end])
    kind = fields['request']
    if kind == 'Stop':
        return Stop()
    if kind == 'Loaded':
        return Loaded(frozenset(map(ip_address, fields['peers'])))
    if kind == 'AddAll':
        return AddAll(tuple(zip(_names_of(fields), _keys_of(fields, octets[end:]), strict=True)))
    if kind == 'DeleteAll':
        return DeleteAll(
            tuple(
                (name, ip_network(peer), send_id, recv_id)
                for name, (peer, send_id, recv_id) in zip(
                    _names_of(fields), fields['keys'], strict=True
                )
            )
        )
    name = _name_of(fields)
    if kind == 'Add':
        return Add(name, _key_of(fields, octets[end:]), fields['select'], fields['fresh'])
    if kind == 'Delete':
        send_id, recv_id = fields['ids']
        switch_to = fields['switch_to']
        return Delete(
            name,
            ip_network(fields['peer']),
            send_id,
            recv_id,
            (switch_to[0], switch_to[1]) if switch_to is not None else None,
        )
    if kind == 'SetRNext':
        return SetRNext(name, fields['recv_id'])
    simple: dict[str, type[Listen | Read | Release]] = {
        'Listen': Listen,
        'Read': Read,
        'Release': Release,
    }
    return simple[kind](name)


def _name(name: SocketName) -> dict[str, Any]:
    return {
        'cookie': name.cookie,
        'local': [str(name.local), name.local_port],
        'versions': sorted(name.versions),
        'remote': [str(name.remote), name.remote_port] if name.remote is not None else None,
    }


def _name_of(fields: dict[str, Any]) -> SocketName:
    local, local_port = fields['local']
    remote, remote_port = fields['remote'] or (None, 0)
    return SocketName(
        cookie=fields['cookie'],
        local=ip_address(local),
        local_port=local_port,
        versions=frozenset(fields['versions']),
        remote=ip_address(remote) if remote is not None else None,
        remote_port=remote_port,
    )


def _names(names: Iterable[SocketName]) -> dict[str, Any]:
    """Return each socket once, and for each key the index of its socket: few sockets, many keys."""
    sockets: dict[SocketName, int] = {}
    which = [sockets.setdefault(name, len(sockets)) for name in names]
    return {'sockets': [_name(name) for name in sockets], 'which': which}


def _names_of(fields: dict[str, Any]) -> list[SocketName]:
    sockets = [_name_of(one) for one in fields['sockets']]
    return [sockets[number] for number in fields['which']]


def _keys_of(fields: dict[str, Any], secrets: bytes) -> Iterator[Key]:
    at = 0
    for one, length in zip(fields['keys'], fields['lengths'], strict=True):
        yield _key_of(one, secrets[at : at + length])
        at += length


def _key(key: Key) -> dict[str, Any]:
    pair = key.pair
    return {
        'peer': str(key.peer),
        'ids': [key.send_id, key.recv_id],
        'algorithm': key.algorithm.name,
        'tcp_options': key.tcp_options,
        'pair': None
        if pair is None
        else [str(pair.local), pair.local_port, str(pair.remote), pair.remote_port],
    }


def _key_of(fields: dict[str, Any], secret: bytes) -> Key:
    send_id, recv_id = fields['ids']
    pair = fields['pair']
    if pair is not None:
        local, local_port, remote, remote_port = pair
        pair = SocketPair(ip_address(local), local_port, ip_address(remote), remote_port)
    return Key(
        peer=ip_network(fields['peer']),
        send_id=send_id,
        recv_id=recv_id,
        algorithm=ALGORITHMS[fields['algorithm']],
        tcp_options=fields['tcp_options'],
        master_key=Secret(secret),
        pair=pair,
    )


def encode_reply(reply: Reply) -> bytes:
    """Return a reply as octets."""
    fields: dict[str, Any] = {'reply': type(reply).__name__}
    match reply:
        case Ready(pid, queue, rules, algorithms, without, removed):
            fields |= {'pid': pid, 'queue': queue, 'rules': rules, 'algorithms': sorted(algorithms)}
            fields |= {'without': without, 'removed': removed}
        case NotReady(text):
            fields['text'] = text
        case Refused(cause, text):
            fields |= {'cause': cause.value, 'text': text}
        case State(state):
            fields['state'] = None if state is None else _state(state)
        case Done() | Wait():
            pass
    return json.dumps(fields).encode()


def decode_reply(octets: bytes) -> Reply:
    """Return a reply from its octets. Raises ValueError or KeyError for malformed octets."""
    fields = json.loads(octets)
    kind = fields.pop('reply')
    match kind:
        case 'Ready':
            return Ready(
                fields['pid'],
                fields['queue'],
                fields['rules'],
                frozenset(fields['algorithms']),
                tuple(fields['without']),
                tuple(fields['removed']),
            )
        case 'NotReady':
            return NotReady(fields['text'])
        case 'Refused':
            return Refused(Cause(fields['cause']), fields['text'])
        case 'State':
            return State(_state_of(fields['state']))
        case 'Wait':
            return Wait()
        case 'Done':
            return Done()
    raise ValueError(f'no such reply: {kind}')


def _state(state: SocketState) -> dict[str, Any]:
    fields = asdict(state)
    for key in fields['keys']:
        key['peer'] = str(key['peer'])
    return fields


def _state_of(fields: dict[str, Any] | None) -> SocketState | None:
    if fields is None:
        return None
    keys = tuple(
        InstalledKey(**(key | {'peer': ip_network(key['peer'])})) for key in fields.pop('keys')
    )
    return SocketState(keys=keys, **fields)
