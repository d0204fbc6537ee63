"""tshark as a reader of captures, with an IKE key log in its `ikev2_decryption_table`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from scapy.layers.inet import IP, UDP
from scapy.utils import wrpcap

from ikev2.events import Datagram

TABLE = 'ikev2_decryption_table'
_FIELDS = (
    'isakmp.exchangetype',
    'isakmp.flag_r',
    'isakmp.typepayload',
    'isakmp.id.data.fqdn',
    'isakmp.notify.msgtype',
)
_NON_ESP_MARKER = bytes(4)


@dataclass(frozen=True, slots=True)
class Seen:
    """One IKE message as tshark reads it."""

    exchange: int
    response: bool
    payloads: tuple[int, ...]
    """Payload types, those inside SK after it."""
    names: tuple[str, ...]
    """FQDNs of identities."""
    notifies: tuple[int, ...]


def write_capture(path: Path, datagrams: Iterable[Datagram]) -> None:
    """A capture of datagrams over IPv4."""
    wrpcap(str(path), [_packet(datagram) for datagram in datagrams])


def _packet(datagram: Datagram) -> object:
    marker = b'' if 500 in (datagram.local_port, datagram.remote_port) else _NON_ESP_MARKER
    ip = IP(src=str(datagram.local), dst=str(datagram.remote))
    return ip / UDP(sport=datagram.local_port, dport=datagram.remote_port) / marker / datagram.data


def read_capture(capture: Path, table: Path | None, home: Path) -> list[Seen]:
    """The IKE messages of a capture, decrypted with a table of keys if there is one.

    `home` is for tshark's configuration: nothing of the user's is read.
    """
    tshark = shutil.which('tshark')
    assert tshark, 'tshark is missing: make packages-test installs it'
    home.mkdir(exist_ok=True)
    if table is not None:
        shutil.copy(table, home / TABLE)
    fields = [word for name in _FIELDS for word in ('-e', name)]
    done = subprocess.run(
        [tshark, '-n', '-r', str(capture), '-Y', 'isakmp', '-T', 'json', *fields],
        env={**os.environ, 'WIRESHARK_CONFIG_DIR': str(home), 'HOME': str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # It only warns where it can't take a table.
    assert TABLE not in done.stderr, done.stderr
    return [_seen(row['_source']['layers']) for row in json.loads(done.stdout)]


def _seen(layers: dict[str, list[str]]) -> Seen:
    return Seen(
        exchange=int(layers['isakmp.exchangetype'][0]),
        response=layers['isakmp.flag_r'][0] in ('1', 'True', 'true'),
        payloads=tuple(map(int, layers.get('isakmp.typepayload', ()))),
        names=tuple(layers.get('isakmp.id.data.fqdn', ())),
        notifies=tuple(map(int, layers.get('isakmp.notify.msgtype', ()))),
    )
