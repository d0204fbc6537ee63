"""The part of IKE_SA_INIT that both roles share: its end, an IKE SA with keys (RFC 7296, 1.2,
2.14).

Nothing is authenticated in this exchange. The roles are in ike_init_initiator.py and
ike_init_responder.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ikev2.constants import VENDOR_ID, ExchangeType, NotifyType
from ikev2.context import SPI_LENGTH, Path
from ikev2.crypto.keys import derive_ike_keys, skeyseed
from ikev2.exchanges.nat import detection
from ikev2.sa.ike_sa import IkeSa
from ikev2.sa.origin import Handshake, Origin
from ikev2.sa.transitions import State
from ikev2.wire.message import Message
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import NotifyPayload, VendorIdPayload
from keymaterial import Secret

if TYPE_CHECKING:
    from ikev2.association import Association

NO_SPI = bytes(SPI_LENGTH)
"""The responder's SPI before there is one."""


def begin(
    association: Association,
    origin: Origin,
    shared: Secret,
    path: Path,
    handshake: Handshake,
    state: State,
    now: float,
) -> IkeSa:
    """Derive the keys of a new IKE SA and give it to its association. Wipes `shared`."""
    suite = origin.suite
    seed = skeyseed(suite.prf, origin.ni, origin.nr, shared)
    keys = derive_ike_keys(
        suite.encryption, suite.prf, seed, origin.ni, origin.nr, origin.spi_i, origin.spi_r
    )
    shared.wipe()
    seed.wipe()
    sa = IkeSa(
        association,
        origin,
        keys,
        path,
        state,
        # IKE_AUTH has Message ID 1; the responder's own requests begin at 0 (RFC 7296, 2.2).
        next_id=1 if origin.initiator else 0,
        expected_id=0 if origin.initiator else 1,
        now=now,
    )
    sa.handshake = handshake
    association.sas.append(sa)
    return sa


def nat_detection(spi_i: bytes, spi_r: bytes, path: Path) -> tuple[NotifyPayload, NotifyPayload]:
    """Return the NAT_DETECTION notifies of a message that is sent along `path`."""
    return detection(spi_i, spi_r, (path.local, path.local_port), (path.remote, path.remote_port))


def fragments(message: Message) -> bool:
    """Return True if the peer accepts IKE fragments; we always do (RFC 7383, 2.3)."""
    return message.notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED) is not None


def intermediate(message: Message) -> bool:
    """Return True if the peer supports IKE_INTERMEDIATE exchanges (RFC 9242, 3.1)."""
    return message.notify(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED) is not None


def speaks_profile(message: Message) -> bool:
    """Return True if the peer sent the Vendor ID of our profile."""
    return any(vendor.vendor_id == VENDOR_ID for vendor in message.all(VendorIdPayload))


def tell(
    association: Association,
    payloads: Sequence[Payload],
    now: float,
    *,
    sent: bool,
    response: bool,
) -> None:
    """Report an IKE_SA_INIT message to the operator."""
    kind = ExchangeType.IKE_SA_INIT
    association.tell_message(kind, payloads, now, sent=sent, response=response, proven=False)
