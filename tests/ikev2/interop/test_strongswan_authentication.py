"""strongSwan as peer: every way to prove an identity, and every kind of identity, in both roles."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address

import pytest
from cryptography import x509

from ikev2.authentication.ppk import Ppk
from ikev2.events import Cause, IkeSaFailed
from keymaterial import Secret
from tests.ikev2.interop.pair import ROLES, Pair, Setup
from tests.ikev2.interop.proofs import (
    both_certified,
    both_raw,
    certified,
    proof,
    proofs,
    shared,
)
from tests.ikev2.interop.swan import Swan
from tests.ikev2.interop.wire import (
    OUR_ADDRESS,
    OUR_ADDRESS_6,
    OUR_NAME,
    PEER_ADDRESS,
    PEER_ADDRESS_6,
    PEER_NAME,
)

pytestmark = [pytest.mark.native, pytest.mark.parametrize('role', ROLES)]

KINDS = {
    'rsa': 'RSA_EMSA_P',
    'rsa-3072': 'RSA_EMSA_P',
    'ecdsa-p256': 'ECDSA_WITH_SHA',
    'ecdsa-p384': 'ECDSA_WITH_SHA',
    'ecdsa-p521': 'ECDSA_WITH_SHA',
    'ed25519': 'ED25519',
    'ed448': 'ED448',
}
"""Of keys, and what it calls their signatures."""


def proven(pair: Pair, ours: str, theirs: str) -> None:
    """Check in the other end's log that both ends authenticated by these methods."""
    log = pair.other.log_text()
    for line, with_ in (("' (myself) with ", theirs), (f"{OUR_NAME}' with ", ours)):
        assert f'{line}{with_}' in log, log


def test_strongswan_authenticates_with_psk(pair: Pair, role: str) -> None:
    with pair.row(role, 'authentication', 'PSK'):
        pair.bring_up(Setup(shared(), shared()), role)
        proven(pair, 'pre-shared key', 'pre-shared key')


@pytest.mark.parametrize('kind', KINDS)
def test_strongswan_authenticates_with_certificates(pair: Pair, role: str, kind: str) -> None:
    ours, theirs = both_certified(kind)
    with pair.row(role, 'authentication', str(ours)):
        pair.bring_up(Setup(ours, theirs), role)
        proven(pair, KINDS[kind], KINDS[kind])


@pytest.mark.parametrize('kind', KINDS)
def test_strongswan_authenticates_with_raw_keys(pair: Pair, role: str, kind: str) -> None:
    ours, theirs = both_raw(kind)
    with pair.row(role, 'authentication', str(ours)):
        pair.bring_up(Setup(ours, theirs), role)
        proven(pair, KINDS[kind], KINDS[kind])


@pytest.mark.parametrize('scheme', ['RSA_EMSA_PSS_SHA2_256', 'RSA_EMSA_PKCS1_SHA2_384'])
def test_strongswan_verifies_each_rsa_scheme(pair: Pair, role: str, scheme: str) -> None:
    ours, theirs = both_certified('rsa')
    word = {'RSA_EMSA_PSS_SHA2_256': 'rsa/pss-sha256', 'RSA_EMSA_PKCS1_SHA2_384': 'rsa-sha384'}
    with pair.row(role, 'authentication', f'it signs by {scheme}'):
        pair.bring_up(Setup(ours, theirs, their_auth=f'ike:{word[scheme]}'), role)
        assert f"' (myself) with {scheme}" in pair.other.log_text()


CLASSIC = {'ecdsa-p256': 'ECDSA-256', 'ecdsa-p384': 'ECDSA-384', 'ecdsa-p521': 'ECDSA-521'}


@pytest.mark.parametrize('kind', CLASSIC)
def test_strongswan_verifies_ecdsa_without_rfc_7427(
    pair: Pair, swan: Swan, role: str, kind: str
) -> None:
    ours, theirs = both_certified(kind)
    with (
        swan.settings('signature_authentication = no'),
        pair.row(role, 'authentication by the classic method', str(ours)),
    ):
        pair.bring_up(Setup(ours, theirs), role)
        proven(pair, f'{CLASSIC[kind]} signature', f'{CLASSIC[kind]} signature')


def test_strongswan_verifies_rsa_without_rfc_7427(pair: Pair, swan: Swan, role: str) -> None:
    # It has SHA-1 there and nothing else, and takes nothing else; we have no SHA-1 at all.
    ours, theirs = both_certified('rsa')
    with (
        swan.settings('signature_authentication = no'),
        pair.row(role, 'authentication by the classic method', str(ours)) as row,
    ):
        found = pair.outcome(Setup(ours, theirs), role)
        if isinstance(found, IkeSaFailed):
            assert (found.step, found.cause) == ('IKE_AUTH', Cause.AUTHENTICATION_FAILED)
            row.unsupported(f'SHA-1 only: {found.text or found.cause}')


@pytest.mark.parametrize(
    ('our_words', 'their_words'),
    [
        ('PSK', 'certified ecdsa-p256'),
        ('certified ecdsa-p256', 'PSK'),
        ('raw ed25519', 'certified rsa'),
        ('certified ed25519', 'raw ecdsa-p384'),
    ],
)
def test_strongswan_agrees_when_methods_differ(
    pair: Pair, role: str, our_words: str, their_words: str
) -> None:
    ours, theirs = proof(our_words, OUR_NAME), proof(their_words, PEER_NAME)
    with pair.row(role, 'authentication', f'we: {ours}, they: {theirs}'):
        pair.bring_up(Setup(ours, theirs), role)


@pytest.mark.parametrize('between', [1, 4])
def test_strongswan_accepts_chain_in_fragments(pair: Pair, role: str, between: int) -> None:
    ours, theirs = both_certified('rsa', between)
    with pair.row(role, 'chain in fragmented IKE_AUTH', str(ours)):
        pair.bring_up(Setup(ours, theirs), role)
        log = pair.other.log_text()
        assert re.search(r'received fragment #\d of \d, reassembled', log), log
        assert 'splitting IKE message' in log
        # Each end had to use what the other sent: it was told the anchor only.
        assert log.count('received issuer cert') == between
        assert log.count('using untrusted intermediate certificate') == between, log


DN = 'CN={},O=lab'
"""As of RFC 4514, last part first."""
IDENTITIES = {
    'ip': (str(OUR_ADDRESS), str(PEER_ADDRESS)),
    'user-fqdn': (f'bgp@{OUR_NAME}', f'bgp@{PEER_NAME}'),
    'dn': (DN.format(OUR_NAME), DN.format(PEER_NAME)),
}
ALTERNATIVES: dict[str, Callable[[str], x509.GeneralName | None]] = {
    'ip': lambda value: x509.IPAddress(ip_address(value)),
    'user-fqdn': x509.RFC822Name,
    'dn': lambda value: None,
}


@pytest.mark.parametrize('kind', IDENTITIES)
def test_strongswan_accepts_identities_in_certificates(pair: Pair, role: str, kind: str) -> None:
    ids = IDENTITIES[kind]
    ours, theirs = (
        certified('ecdsa-p256', end, 0, ALTERNATIVES[kind](value))
        for end, value in zip((OUR_NAME, PEER_NAME), ids, strict=True)
    )
    with pair.row(role, 'identity in a certificate', kind):
        pair.bring_up(Setup(ours, theirs, our_id=(kind, ids[0]), their_id=(kind, ids[1])), role)


@pytest.mark.parametrize('kind', ['ip', 'user-fqdn', 'key-id'])
def test_strongswan_accepts_identities_with_psk(pair: Pair, role: str, kind: str) -> None:
    our_id, their_id = IDENTITIES.get(kind, ('router-1', 'router-2'))
    with pair.row(role, 'identity with a PSK', kind):
        pair.bring_up(
            Setup(shared(), shared(), our_id=(kind, our_id), their_id=(kind, their_id)), role
        )


def test_strongswan_agrees_over_ipv6(pair: Pair, role: str) -> None:
    with pair.row(role, 'IPv6', 'PSK'):
        pair.bring_up(Setup(shared(), shared(), addresses=(OUR_ADDRESS_6, PEER_ADDRESS_6)), role)


PPK = Ppk('lab', Secret(bytes(range(32))))


def test_strongswan_agrees_with_post_quantum_psk(pair: Pair, role: str) -> None:
    with pair.row(role, 'PPK (RFC 8784)', 'required at both ends'):
        pair.bring_up(Setup(shared(), shared(), ppk=PPK, options='ppk_required = yes'), role)
        assert "using PPK for PPK_ID 'lab'" in pair.other.log_text()


def test_strongswan_is_refused_when_ppk_differs(pair: Pair, role: str) -> None:
    other = Ppk('lab', Secret(bytes(32)))
    with pair.row(role, 'PPK (RFC 8784)', 'they differ: refused'):
        setup = Setup(shared(), shared(), ppk=PPK, our_ppk=other, options='ppk_required = yes')
        assert pair.refused(setup, role).cause == Cause.AUTHENTICATION_FAILED


@pytest.mark.parametrize('words', ['PSK', 'raw ed25519', 'certified ecdsa-p256'])
def test_strongswan_is_refused_when_proof_is_wrong(pair: Pair, role: str, words: str) -> None:
    # The responder refuses what comes first, the initiator's proof.
    ours, theirs = proofs(words)
    wrong = shared('not theirs, but as long') if words == 'PSK' else proof(words, 'else.example')
    with pair.row(role, 'authentication refused', f"{ours}, the initiator's is wrong"):
        setup = (
            Setup(wrong, theirs, believed=wrong, expected=ours)
            if role == 'initiator' or words == 'PSK'
            else Setup(ours, theirs, believed=wrong)
        )
        failed = pair.refused(setup, role)
        assert (failed.step, failed.cause) == ('IKE_AUTH', Cause.AUTHENTICATION_FAILED)
        refusal = 'received AUTHENTICATION_FAILED' if role == 'responder' else 'N(AUTH_FAILED)'
        assert refusal in pair.other.log_text()


def test_strongswan_verifies_ml_dsa(pair: Pair, swan: Swan, role: str) -> None:
    ours, theirs = both_certified('ml-dsa-65')
    with pair.row(role, 'authentication', str(ours)) as row:
        refusal = swan.refusal(Setup(ours, theirs))
        if refusal:
            row.unsupported(refusal)
        else:
            assert pair.bring_up(Setup(ours, theirs), role).proves_alive()
