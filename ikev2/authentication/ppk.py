"""Post-quantum pre-shared keys, mixed into the keys of an IKE SA (RFC 8784).

A PPK is no credential: it is used together with one, and protects traffic recorded today from a
later quantum computer. It changes only SK_d, SK_pi and SK_pr of the initial IKE SA. The IKE SA's
own messages are protected from its first rekey on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from ikev2.constants import NotifyType, PpkIdType
from ikev2.crypto.keys import IkeKeys
from ikev2.crypto.prf import prf_length, prf_plus
from ikev2.errors import AuthenticationFailed, CredentialError, ProofFault
from ikev2.wire.payloads import NotifyPayload
from keymaterial import Secret

LONGEST_PPK_ID: Final = 200
"""Characters; our limit."""


@dataclass(frozen=True, slots=True)
class Ppk:
    """A PPK that we share with a peer, and its name on both sides."""

    identity: str
    secret: Secret
    required: bool = True
    """True if no IKE SA is made without this PPK."""

    def __post_init__(self) -> None:
        """Check identity and secret. Raises CredentialError."""
        if not 1 <= len(self.identity) <= LONGEST_PPK_ID or not self.identity.isascii():
            raise CredentialError(
                f'the identity of a PPK is 1 to {LONGEST_PPK_ID} characters of ASCII'
            )
        if not len(self.secret):
            raise CredentialError('the PPK is empty')

    @property
    def ppk_id(self) -> bytes:
        """Return PPK_ID for PPK_IDENTITY (RFC 8784, 5.1), of type PPK_ID_FIXED."""
        return bytes([PpkIdType.FIXED]) + self.identity.encode()

    def notify(self) -> NotifyPayload:
        """Return the PPK_IDENTITY notify of the initiator."""
        return NotifyPayload(NotifyType.PPK_IDENTITY, self.ppk_id)

    def mixed(self, prf_id: int, keys: IkeKeys) -> IkeKeys:
        """Return the keys of the IKE SA with this PPK in three of them (RFC 8784, 3).

        `keys` stay unchanged; the other four are shared with them.
        """
        length = prf_length(prf_id)

        def mix(key: Secret) -> Secret:
            return prf_plus(prf_id, self.secret, key.reveal(), length)

        return replace(keys, sk_d=mix(keys.sk_d), sk_pi=mix(keys.sk_pi), sk_pr=mix(keys.sk_pr))


class Use(StrEnum):
    """Use of a PPK in an IKE_AUTH exchange."""

    WITH = 'with the PPK'
    WITHOUT = 'without a PPK'
    ABORT = 'not at all'


# RFC 8784, 3, the table of the responder's behaviour. Columns: the request came with USE_PPK; with
# NO_PPK_AUTH; we have the PPK of its PPK_ID; a PPK is mandatory for us.
_RESPONDER = MappingProxyType(
    {
        (False, False, False, False): Use.WITHOUT,
        (False, False, False, True): Use.ABORT,
        (True, False, False, False): Use.ABORT,
        (True, False, False, True): Use.ABORT,
        (True, True, False, False): Use.WITHOUT,
        (True, True, False, True): Use.ABORT,
        (True, False, True, False): Use.WITH,
        (True, False, True, True): Use.WITH,
        (True, True, True, False): Use.WITH,
        (True, True, True, True): Use.WITH,
    }
)


def responder_uses(
    ppk: Ppk | None,
    *,
    negotiated: bool,
    identity: NotifyPayload | None,
    no_ppk_auth: NotifyPayload | None,
) -> Use:
    """Decide, as responder, how an IKE_AUTH request uses a PPK.

    `negotiated` tells whether both sides sent USE_PPK in IKE_SA_INIT, `identity` and `no_ppk_auth`
    are the request's notifies. Raises AuthenticationFailed for Use.ABORT.
    """
    if negotiated and identity is None:
        # Before the table, whose rows are about requests that name a PPK.
        raise AuthenticationFailed(
            'the peer agreed to use a PPK (RFC 8784), and names none', ProofFault.PPK
        )
    known = negotiated and ppk is not None and identity is not None and identity.data == ppk.ppk_id
    use = _RESPONDER[
        negotiated,
        negotiated and no_ppk_auth is not None,
        known,
        ppk is not None and ppk.required,
    ]
    if use is Use.ABORT:
        raise AuthenticationFailed(
            'the peer names a PPK that is not configured'
            if identity is not None
            else 'the peer uses no PPK, and one is required',
            ProofFault.PPK,
        )
    return use


def initiator_uses(ppk: Ppk | None, *, supported: bool) -> Use:
    """Decide, as initiator, how a PPK is used, after the answer to IKE_SA_INIT (RFC 8784, 3).

    `supported` tells whether that answer has USE_PPK. Raises AuthenticationFailed for Use.ABORT.
    """
    if ppk is None or (not supported and not ppk.required):
        return Use.WITHOUT
    if not supported:
        raise AuthenticationFailed(
            'the peer does not know PPKs (RFC 8784), and one is required', ProofFault.PPK
        )
    return Use.WITH
