"""NAT detection (RFC 7296, 2.23): the two Notify payloads of IKE_SA_INIT, made and checked.

A NAT is only detected here, not traversed: TCP-AO's MAC covers the addresses.
"""

from __future__ import annotations

from hashlib import sha1

from ikev2.constants import NotifyType
from ikev2.events import Datagram, IPAddress
from ikev2.wire.message import Message
from ikev2.wire.payloads import NotifyPayload


def detection(
    spi_i: bytes, spi_r: bytes, source: tuple[IPAddress, int], destination: tuple[IPAddress, int]
) -> tuple[NotifyPayload, NotifyPayload]:
    """Return the notifies of a message that we send from `source` to `destination` (address,
    port).
    """
    return (
        NotifyPayload(NotifyType.NAT_DETECTION_SOURCE_IP, _digest(spi_i, spi_r, *source)),
        NotifyPayload(NotifyType.NAT_DETECTION_DESTINATION_IP, _digest(spi_i, spi_r, *destination)),
    )


def on_path(message: Message, datagram: Datagram) -> bool:
    """Return True if addresses or ports were changed on the way; False without the notifies.

    Several NAT_DETECTION_SOURCE_IP payloads are the sender's possible addresses.
    """
    spis = message.header.initiator_spi, message.header.responder_spi
    sources = {n.data for n in message.notifies(NotifyType.NAT_DETECTION_SOURCE_IP)}
    destinations = {n.data for n in message.notifies(NotifyType.NAT_DETECTION_DESTINATION_IP)}
    return bool(
        (sources and _digest(*spis, datagram.remote, datagram.remote_port) not in sources)
        or (
            destinations and _digest(*spis, datagram.local, datagram.local_port) not in destinations
        )
    )


def _digest(spi_i: bytes, spi_r: bytes, address: IPAddress, port: int) -> bytes:
    octets = spi_i + spi_r + address.packed + port.to_bytes(2, 'big')
    return sha1(octets, usedforsecurity=False).digest()
