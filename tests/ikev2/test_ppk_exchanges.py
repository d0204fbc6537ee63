"""A post-quantum pre-shared key between two engines: RFC 8784, 3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from cryptography import x509

from ikev2.authentication.auth import LocalCredential, PeerCredential, PrivateKey
from ikev2.authentication.ppk import Ppk
from ikev2.events import Cause, IkeMessage, IkeSaFailed, IkeSaUp, RpSaNegotiated
from ikev2.exchanges.ike_auth import Authenticate
from ikev2.peer import Peer
from ikev2.proposals.policies import POLICIES
from ikev2.sa.ike_sa import IkeSa
from ikev2.wire.payload import Payload
from keymaterial import Secret
from tests.ikev2.bench import Bench, peer_a, peer_b, psk, rp_request, sas_of
from tests.ikev2.pki import keys, root

SECRET = Secret(b'thirty-two octets of entropy ...')
PPK = Ppk('lab', SECRET)
OPTIONAL = Ppk('lab', SECRET, required=False)
OTHER = Ppk('lab', Secret(b'another secret of the same name!'))
OTHER_OPTIONAL = replace(OTHER, required=False)
STRANGE = Ppk('elsewhere', SECRET)
STRANGE_OPTIONAL = replace(STRANGE, required=False)


def with_ppk(peer: Peer, ppk: Ppk | None) -> Peer:
    return replace(peer, ppk=ppk)


def connected(
    a: Ppk | None,
    b: Ppk | None,
    *,
    ours: tuple[LocalCredential, PeerCredential] | None = None,
    theirs: tuple[LocalCredential, PeerCredential] | None = None,
    policy: str = 'default',
) -> Bench:
    """`a` is what A has."""
    at_a = with_ppk(peer_b(*(ours or (psk(), psk()))), a)
    at_b = with_ppk(peer_a(*(theirs or (psk(), psk()))), b)
    made = Bench(b=replace(at_a, policy=POLICIES[policy]), a=replace(at_b, policy=POLICIES[policy]))
    made.connect()
    return made


def used(made: Bench) -> bool:
    """Both sides are up, and agree; whether the PPK is in the keys."""
    a, b = sas_of(made.a)[0], sas_of(made.b)[0]
    assert made.a.last(IkeSaUp)
    assert made.b.last(IkeSaUp)
    assert a.keys.sk_d == b.keys.sk_d
    answer = [m.detail for m in made.a.all(IkeMessage) if m.exchange == 'IKE_AUTH' and m.response]
    return 'N(PPK_IDENTITY)' in answer[0]


def details(made: Bench, exchange: str) -> list[str]:
    return [m.detail for m in made.a.all(IkeMessage) if m.exchange == exchange]


@pytest.mark.parametrize(
    ('a', 'b', 'with_it'),
    [
        (PPK, PPK, True),
        (PPK, OPTIONAL, True),
        (OPTIONAL, PPK, True),
        (OPTIONAL, OPTIONAL, True),
        (OPTIONAL, None, False),
        (None, OPTIONAL, False),
        (None, None, False),
        (OPTIONAL, STRANGE_OPTIONAL, False),
    ],
)
def test_handshake_succeeds_when_ppks_agree(a: Ppk | None, b: Ppk | None, with_it: bool) -> None:
    assert used(connected(a, b)) is with_it


@pytest.mark.parametrize(
    ('a', 'b'),
    [
        (PPK, None),
        (None, PPK),
        (PPK, STRANGE),
        (PPK, STRANGE_OPTIONAL),
        (OPTIONAL, STRANGE),
        # One name, two secrets: AUTH tells (RFC 8784, 1). NO_PPK_AUTH is no way around it.
        (PPK, OTHER),
        (OPTIONAL, OTHER),
        (OPTIONAL, OTHER_OPTIONAL),
    ],
)
def test_handshake_fails_when_ppks_disagree(a: Ppk | None, b: Ppk | None) -> None:
    made = connected(a, b)
    made.run(60)
    assert not made.a.all(IkeSaUp)
    assert not made.b.all(IkeSaUp)
    assert not sas_of(made.a)
    assert not sas_of(made.b)
    assert made.a.last(IkeSaFailed).cause in (Cause.REFUSED, Cause.AUTHENTICATION_FAILED)


def test_ppk_notifies_are_as_in_rfc_8784() -> None:
    # RFC 8784, 3: USE_PPK both ways, PPK_IDENTITY both ways, NO_PPK_AUTH if it isn't mandatory.
    mandatory, optional = connected(PPK, PPK), connected(OPTIONAL, PPK)
    for made, fallback in ((mandatory, False), (optional, True)):
        assert all('N(USE_PPK)' in detail for detail in details(made, 'IKE_SA_INIT'))
        request, response = details(made, 'IKE_AUTH')
        assert 'N(PPK_IDENTITY)' in request
        assert 'N(PPK_IDENTITY)' in response
        assert ('N(NO_PPK_AUTH)' in request) is fallback
    without = connected(None, OPTIONAL)
    everything = ' '.join(details(without, 'IKE_SA_INIT') + details(without, 'IKE_AUTH'))
    assert 'PPK' not in everything


def test_failure_tells_what_ppk_is_missing() -> None:
    made = connected(PPK, None)
    made.run(60)
    assert 'does not know PPKs' in made.a.last(IkeSaFailed).text
    made = connected(None, PPK)
    assert 'uses no PPK, and one is required' in made.b.last(IkeSaFailed).text
    made = connected(PPK, STRANGE)
    assert 'names a PPK that is not configured' in made.b.last(IkeSaFailed).text


def test_responder_is_refused_when_it_drops_required_ppk(monkeypatch: pytest.MonkeyPatch) -> None:
    # It answers without PPK_IDENTITY, as if it had taken NO_PPK_AUTH.
    monkeypatch.setattr(
        'ikev2.exchanges.ike_auth._keys_and_auth', lambda sa, message, auth: (sa.keys, auth)
    )
    monkeypatch.setattr('ikev2.exchanges.ike_auth.verify_auth', lambda *_, **__: None)
    made = connected(PPK, PPK)
    made.run(30)
    assert not made.a.all(IkeSaUp)
    assert 'did not use the PPK' in made.a.last(IkeSaFailed).text


@pytest.mark.parametrize('ppk', [PPK, OPTIONAL], ids=['required', 'optional'])
def test_initiator_is_refused_when_it_names_no_ppk(
    ppk: Ppk, monkeypatch: pytest.MonkeyPatch
) -> None:
    # RFC 8784, 3: AUTHENTICATION_FAILED, whether or not it is mandatory.
    original = Authenticate.request

    def request(self: Authenticate, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        assert sa.handshake is not None
        assert sa.handshake.ppk  # both sent USE_PPK
        sa.handshake.ppk = False
        return original(self, sa, now)

    monkeypatch.setattr(Authenticate, 'request', request)
    made = connected(OPTIONAL, ppk)
    made.run(60)
    failed = made.b.last(IkeSaFailed)
    assert failed.cause == Cause.AUTHENTICATION_FAILED
    assert 'names none' in failed.text
    assert made.a.last(IkeSaFailed).cause == Cause.AUTHENTICATION_FAILED
    assert not made.b.all(IkeSaUp)


def test_ppk_works_beside_every_credential() -> None:
    authority = root()
    a = authority.leaf('a', x509.DNSName('a.example'), kind='rsa', number=1).credential()
    b = PrivateKey(keys('ed25519'))
    for ppk_a, ppk_b, with_it in ((OPTIONAL, OPTIONAL, True), (OPTIONAL, None, False)):
        made = connected(
            ppk_a,
            ppk_b,
            ours=(a, b.public_key.fingerprint),
            theirs=(b, authority.trust()),
        )
        assert used(made) is with_it
    # NO_PPK_AUTH of a signature carries its AlgorithmIdentifier too.
    made = connected(
        OPTIONAL,
        STRANGE_OPTIONAL,
        ours=(a, b.public_key.fingerprint),
        theirs=(b, authority.trust()),
    )
    assert not used(made)


def test_ppk_works_with_additional_key_exchange() -> None:
    # RFC 9242, 3.3.2: IntAuth is made with the keys from before the PPK is mixed in.
    assert used(connected(PPK, PPK, policy='hybrid'))


def test_ppk_is_in_keys_of_children_and_successors() -> None:
    made, plain = connected(PPK, PPK), connected(None, None)
    assert sas_of(made.a)[0].keys.sk_d != sas_of(plain.a)[0].keys.sk_d
    made.negotiate(rp_request())
    assert made.a.last(RpSaNegotiated).keys.master_key == made.b.accepted[0].master_key
    made.a.endpoint.rekey_ike_sa('b', made.now)
    made.settle()
    a, b = ([sa for sa in sas_of(node) if sa.finished] for node in (made.a, made.b))
    assert a[0].keys.sk_d == b[0].keys.sk_d


def test_keys_without_ppk_are_wiped() -> None:
    made = Bench(b=with_ppk(peer_b(), PPK), a=with_ppk(peer_a(), PPK))
    made.a.endpoint.connect('b', made.now)
    while not sas_of(made.a):
        made.step()
    before = sas_of(made.a)[0].keys
    made.settle()
    after = sas_of(made.a)[0].keys
    assert before.sk_d.wiped
    assert before.sk_pi.wiped
    assert not after.sk_d.wiped
    assert after.sk_pi.wiped  # nothing of the handshake is left
