"""Post-quantum pre-shared keys: RFC 8784."""

from __future__ import annotations

import hmac
from hashlib import sha256
from itertools import product

import pytest

from ikev2.authentication.ppk import Ppk, Use, initiator_uses, responder_uses
from ikev2.constants import NotifyType, PrfId
from ikev2.crypto.cipher import AES_256_GCM_16
from ikev2.crypto.keys import derive_ike_keys
from ikev2.errors import AuthenticationFailed, CredentialError
from ikev2.wire.payloads import NotifyPayload
from keymaterial import Secret

PRF = PrfId.HMAC_SHA2_256
PPK = Ppk('lab', Secret(b'a post-quantum pre-shared key'))
OPTIONAL = Ppk('lab', PPK.secret, required=False)
NAMED = PPK.notify()
STRANGE = NotifyPayload(NotifyType.PPK_IDENTITY, b'\x02other')
NO_PPK_AUTH = NotifyPayload(NotifyType.NO_PPK_AUTH, b'auth data')


def test_ppk_identity_is_fixed_ppk_id() -> None:
    # RFC 8784, 5.1: PPK_ID_FIXED is 2.
    assert PPK.notify() == NotifyPayload(NotifyType.PPK_IDENTITY, b'\x02lab')


def test_ppk_mixes_three_keys_only() -> None:
    # RFC 8784, 3: SK_d = prf+ (PPK, SK_d'), SK_pi and SK_pr likewise; no published vector.
    keys = derive_ike_keys(AES_256_GCM_16, PRF, Secret(b'seed'), b'ni', b'nr', bytes(8), bytes(8))
    mixed = PPK.mixed(PRF, keys)
    for name in ('sk_d', 'sk_pi', 'sk_pr'):
        before: Secret = getattr(keys, name)
        wanted = hmac.digest(PPK.secret.reveal(), before.reveal() + b'\x01', sha256)
        assert getattr(mixed, name) == Secret(wanted)
    for name in ('sk_ai', 'sk_ar', 'sk_ei', 'sk_er'):
        assert getattr(mixed, name) is getattr(keys, name)


@pytest.mark.parametrize('prf_id', [PrfId.HMAC_SHA2_384, PrfId.HMAC_SHA2_512])
def test_ppk_mixed_keys_keep_their_length(prf_id: PrfId) -> None:
    keys = derive_ike_keys(
        AES_256_GCM_16, prf_id, Secret(b'seed'), b'ni', b'nr', bytes(8), bytes(8)
    )
    assert len(PPK.mixed(prf_id, keys).sk_d) == len(keys.sk_d)


@pytest.mark.parametrize('identity', ['', 'l\u00e4b', 'x' * 201])
def test_ppk_refuses_identity_that_cannot_be_sent(identity: str) -> None:
    with pytest.raises(CredentialError, match='identity of a PPK'):
        Ppk(identity, Secret(b'x'))


def test_ppk_refuses_empty_key() -> None:
    with pytest.raises(CredentialError, match='empty'):
        Ppk('lab', Secret(b''))


def test_initiator_uses_follows_rfc_8784_table() -> None:
    # RFC 8784, 3: without USE_PPK in the answer it goes on without, or not at all.
    assert initiator_uses(None, supported=False) is Use.WITHOUT
    assert initiator_uses(None, supported=True) is Use.WITHOUT
    assert initiator_uses(PPK, supported=True) is Use.WITH
    assert initiator_uses(OPTIONAL, supported=True) is Use.WITH
    assert initiator_uses(OPTIONAL, supported=False) is Use.WITHOUT
    with pytest.raises(AuthenticationFailed, match='one is required'):
        initiator_uses(PPK, supported=False)


# RFC 8784, 3, the responder's table: USE_PPK, NO_PPK_AUTH, our PPK, does the peer name it (None: it
# names none at all)?
ROWS: list[tuple[bool, bool, Ppk | None, bool | None, str]] = [
    (False, False, None, False, 'without'),
    (False, False, OPTIONAL, False, 'without'),
    (False, False, PPK, False, 'abort'),
    (True, False, None, False, 'abort'),
    (True, False, OPTIONAL, False, 'abort'),
    (True, False, PPK, False, 'abort'),
    (True, False, OPTIONAL, True, 'with'),
    (True, False, PPK, True, 'with'),
    (True, True, None, False, 'without'),
    (True, True, OPTIONAL, False, 'without'),
    (True, True, PPK, False, 'abort'),
    (True, True, OPTIONAL, True, 'with'),
    (True, True, PPK, True, 'with'),
    (True, False, OPTIONAL, None, 'abort'),
    (True, True, OPTIONAL, None, 'abort'),
    (True, False, PPK, None, 'abort'),
    (True, True, PPK, None, 'abort'),
]


@pytest.mark.parametrize(('used', 'fallback', 'ppk', 'known', 'use'), ROWS)
def test_responder_uses_follows_rfc_8784_table(
    used: bool, fallback: bool, ppk: Ppk | None, known: bool | None, use: str
) -> None:
    def decide() -> Use:
        return responder_uses(
            ppk,
            negotiated=used,
            identity={True: NAMED, False: STRANGE, None: None}[known] if used else None,
            no_ppk_auth=NO_PPK_AUTH if fallback else None,
        )

    if use == 'abort':
        with pytest.raises(AuthenticationFailed, match='PPK'):
            decide()
    else:
        assert decide() is {'with': Use.WITH, 'without': Use.WITHOUT}[use]


@pytest.mark.parametrize(
    ('ppk', 'negotiated', 'identity', 'fallback'),
    list(
        product([None, OPTIONAL, PPK], [False, True], [None, NAMED, STRANGE], [None, NO_PPK_AUTH])
    ),
)
def test_required_ppk_is_used_or_fails_when_peer_sends_any(
    ppk: Ppk | None,
    negotiated: bool,
    identity: NotifyPayload | None,
    fallback: NotifyPayload | None,
) -> None:
    try:
        use = responder_uses(ppk, negotiated=negotiated, identity=identity, no_ppk_auth=fallback)
    except AuthenticationFailed:
        return
    assert use is not Use.ABORT
    if ppk is PPK:
        assert use is Use.WITH
    if use is Use.WITH:
        assert negotiated
        assert identity == NAMED
