"""Peer authentication: RFC 7296, 2.15; RFC 7427; RFC 8420; RFC 7670."""

from __future__ import annotations

import copy
import hmac
import pickle
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from ikev2.authentication.auth import (
    Fingerprint,
    LocalCredential,
    PeerCredential,
    PresharedKey,
    PrivateKey,
    PublicKey,
    certificate_requests,
    certificates,
    make_auth,
    read_signature_hashes,
    signature_hashes,
    signed_octets,
    verify_auth,
)
from ikev2.constants import AuthMethod, CertificateEncoding, NotifyType, PrfId, SignatureHash
from ikev2.errors import AuthenticationFailed, CredentialError, MalformedMessage
from ikev2.wire.payloads import (
    AuthPayload,
    CertificatePayload,
    CertificateRequestPayload,
    IdiPayload,
    NotifyPayload,
)
from keymaterial import Secret

PRF = PrfId.HMAC_SHA2_256
OCTETS = b'the signed octets'
IDENTITY_HASH = frozenset({SignatureHash.IDENTITY})
PSK = PresharedKey(Secret(b'correct horse battery staple'))
RAW = CertificateEncoding.RAW_PUBLIC_KEY

# RFC 8032, 7.1, test 2.
ED25519_PRIVATE = bytes.fromhex('4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb')
ED25519_PUBLIC = bytes.fromhex('3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c')
ED25519_SIGNATURE = bytes.fromhex(
    '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da'
    '085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00'
)
# RFC 8410, 4: SubjectPublicKeyInfo of an Ed25519 key; RFC 8420, A.1: AlgorithmIdentifier.
SPKI = bytes.fromhex('302a300506032b6570032100') + ED25519_PUBLIC
ALGORITHM_IDENTIFIER = bytes.fromhex('300506032b6570')


def private_pem(key: object = None, password: bytes | None = None) -> bytes:
    found = key or ed25519.Ed25519PrivateKey.from_private_bytes(ED25519_PRIVATE)
    assert isinstance(found, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey)
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return found.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


KEY = PrivateKey.load(Secret(private_pem()))
PUBLIC = KEY.public_key
OTHER = PrivateKey(ed25519.Ed25519PrivateKey.generate())


def test_signed_octets_of_initiator_are_in_order() -> None:
    # RFC 7296, 2.15: RealMessage1 | NonceRData | prf(SK_pi, IDType | RESERVED | InitIDData).
    identification = IdiPayload(2, b'r1.lab', b'\x01\x02\x03')
    octets = signed_octets(PRF, b'message', b'nonce', Secret(b'sk_pi'), identification)
    maced = hmac.digest(b'sk_pi', b'\x02\x01\x02\x03r1.lab', sha256)
    assert octets == b'message' + b'nonce' + maced


def test_signed_octets_end_with_intermediate_exchanges() -> None:
    # RFC 9242, 3.3.2.
    identification = IdiPayload(2, b'r1.lab')
    plain = signed_octets(PRF, b'm', b'n', Secret(b'k'), identification)
    assert signed_octets(PRF, b'm', b'n', Secret(b'k'), identification, b'intauth') == (
        plain + b'intauth'
    )


def test_preshared_key_is_padded_and_used_as_prf_key() -> None:
    # RFC 7296, 2.15: prf(prf(Shared Secret, "Key Pad for IKEv2"), octets); no published vector.
    auth = make_auth(PSK, PRF, OCTETS, ())
    padded = hmac.digest(b'correct horse battery staple', b'Key Pad for IKEv2', sha256)
    assert auth == AuthPayload(AuthMethod.SHARED_KEY_MIC, hmac.digest(padded, OCTETS, sha256))


def test_preshared_key_verifies_its_own_mic() -> None:
    verify_auth(PSK, PRF, OCTETS, make_auth(PSK, PRF, OCTETS, ()))


def test_ed25519_signs_by_method_14_with_its_identifier() -> None:
    # RFC 7427, 3: length, AlgorithmIdentifier, signature. RFC 8032, 7.1, test 2: one octet, 72.
    auth = make_auth(KEY, PRF, b'\x72', IDENTITY_HASH)
    assert auth.method == AuthMethod.DIGITAL_SIGNATURE
    assert auth.data == b'\x07' + ALGORITHM_IDENTIFIER + ED25519_SIGNATURE


@pytest.mark.parametrize('credential', [PUBLIC, PUBLIC.fingerprint], ids=['key', 'fingerprint'])
def test_ed25519_signature_verifies(credential: PeerCredential) -> None:
    received = [CertificatePayload(RAW, SPKI)]
    verify_auth(credential, PRF, OCTETS, make_auth(KEY, PRF, OCTETS, IDENTITY_HASH), received)


CREDENTIALS: list[tuple[LocalCredential, PeerCredential]] = [
    (PSK, PSK),
    (KEY, PUBLIC),
    (KEY, PUBLIC.fingerprint),
]


@pytest.mark.parametrize(('local', 'peer'), CREDENTIALS)
def test_verify_auth_fails_when_octets_differ(local: LocalCredential, peer: PeerCredential) -> None:
    auth = make_auth(local, PRF, OCTETS, IDENTITY_HASH)
    with pytest.raises(AuthenticationFailed):
        verify_auth(peer, PRF, OCTETS + b'!', auth, [CertificatePayload(RAW, SPKI)])


@pytest.mark.parametrize(('local', 'peer'), CREDENTIALS)
@given(st.data())
def test_verify_auth_fails_when_data_differ(
    local: LocalCredential, peer: PeerCredential, data: st.DataObject
) -> None:
    good = make_auth(local, PRF, OCTETS, IDENTITY_HASH)
    flipped = st.integers(0, 8 * len(good.data) - 1).map(
        lambda bit: (int.from_bytes(good.data, 'big') ^ 1 << bit).to_bytes(len(good.data), 'big')
    )
    cut = st.integers(0, len(good.data) - 1).map(lambda end: good.data[:end])
    octets = data.draw(st.one_of(flipped, cut, st.binary(max_size=100)))
    with pytest.raises(AuthenticationFailed):
        verify_auth(
            peer, PRF, OCTETS, AuthPayload(good.method, octets), [CertificatePayload(RAW, SPKI)]
        )


@pytest.mark.parametrize(('local', 'peer'), CREDENTIALS)
@pytest.mark.parametrize('method', [0, 1, 2, 9, 10, 11, 13, 14, 255])
def test_verify_auth_accepts_only_configured_method(
    local: LocalCredential, peer: PeerCredential, method: int
) -> None:
    good = make_auth(local, PRF, OCTETS, IDENTITY_HASH)
    if method == good.method:
        return
    with pytest.raises(AuthenticationFailed, match='method'):
        verify_auth(
            peer, PRF, OCTETS, AuthPayload(method, good.data), [CertificatePayload(RAW, SPKI)]
        )


def test_verify_auth_fails_with_another_preshared_key() -> None:
    auth = make_auth(PresharedKey(Secret(b'other')), PRF, OCTETS, ())
    with pytest.raises(AuthenticationFailed, match='pre-shared keys differ'):
        verify_auth(PSK, PRF, OCTETS, auth)


def test_verify_auth_fails_with_another_private_key() -> None:
    auth = make_auth(OTHER, PRF, OCTETS, IDENTITY_HASH)
    with pytest.raises(AuthenticationFailed, match='signature is wrong'):
        verify_auth(PUBLIC, PRF, OCTETS, auth)


def test_pinned_key_ignores_peers_certificates() -> None:
    auth = make_auth(OTHER, PRF, OCTETS, IDENTITY_HASH)
    received = [CertificatePayload(RAW, OTHER.public_key.spki)]
    with pytest.raises(AuthenticationFailed):
        verify_auth(PUBLIC, PRF, OCTETS, auth, received)


def test_fingerprint_needs_peers_key() -> None:
    auth = make_auth(KEY, PRF, OCTETS, IDENTITY_HASH)
    for received in ([], [CertificatePayload(CertificateEncoding.X509_SIGNATURE, SPKI)]):
        with pytest.raises(AuthenticationFailed, match='sent no raw public key'):
            verify_auth(PUBLIC.fingerprint, PRF, OCTETS, auth, received)


def test_fingerprint_refuses_other_key_even_if_it_signed() -> None:
    auth = make_auth(OTHER, PRF, OCTETS, IDENTITY_HASH)
    received = [CertificatePayload(RAW, OTHER.public_key.spki)]
    with pytest.raises(AuthenticationFailed, match='another fingerprint'):
        verify_auth(PUBLIC.fingerprint, PRF, OCTETS, auth, received)


def test_fingerprint_reads_only_first_raw_key() -> None:
    # RFC 7296, 3.6: only the first CERT holds the key that AUTH is checked with.
    auth = make_auth(KEY, PRF, OCTETS, IDENTITY_HASH)
    received = [CertificatePayload(RAW, OTHER.public_key.spki), CertificatePayload(RAW, SPKI)]
    with pytest.raises(AuthenticationFailed, match='another fingerprint'):
        verify_auth(PUBLIC.fingerprint, PRF, OCTETS, auth, received)


def test_pinned_key_blames_peer_when_blob_is_no_key() -> None:
    blob = b'not a SubjectPublicKeyInfo'
    fingerprint = Fingerprint(sha256(blob).digest())
    auth = make_auth(KEY, PRF, OCTETS, IDENTITY_HASH)
    with pytest.raises(AuthenticationFailed, match="can't be read"):
        verify_auth(fingerprint, PRF, OCTETS, auth, [CertificatePayload(RAW, blob)])


def test_pinned_key_blames_peer_when_type_differs() -> None:
    spki = (
        ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )
    fingerprint = Fingerprint(sha256(spki).digest())
    auth = make_auth(KEY, PRF, OCTETS, IDENTITY_HASH)
    with pytest.raises(AuthenticationFailed, match='does not fit'):
        verify_auth(fingerprint, PRF, OCTETS, auth, [CertificatePayload(RAW, spki)])


def test_verify_auth_fails_when_signature_algorithm_differs() -> None:
    good = make_auth(KEY, PRF, OCTETS, IDENTITY_HASH)
    ecdsa = bytes.fromhex('0c 300a06082a8648ce3d040302')  # RFC 7427, A.3.2
    auth = AuthPayload(AuthMethod.DIGITAL_SIGNATURE, ecdsa + good.data[8:])
    with pytest.raises(AuthenticationFailed, match='does not fit'):
        verify_auth(PUBLIC, PRF, OCTETS, auth)


@pytest.mark.parametrize('hashes', [set(), {1, 2, 3, 4}])
def test_make_auth_signs_only_what_peer_accepts(hashes: set[int]) -> None:
    # RFC 7427, 3 and 4: not without the peer's notify, and with one of its hashes.
    with pytest.raises(AuthenticationFailed, match="didn't announce"):
        make_auth(KEY, PRF, OCTETS, hashes)


def test_signature_hashes_announce_our_algorithms() -> None:
    # RFC 7427, 4; RFC 8420: "identity" is 5.
    notify = signature_hashes()
    octets = bytes.fromhex('0002 0003 0004 0005')
    assert notify == NotifyPayload(NotifyType.SIGNATURE_HASH_ALGORITHMS, octets)
    assert read_signature_hashes(notify) == {2, 3, 4, 5}


def test_read_signature_hashes_returns_peers_algorithms() -> None:
    notify = NotifyPayload(NotifyType.SIGNATURE_HASH_ALGORITHMS, bytes.fromhex('0002 0005 ffff'))
    assert read_signature_hashes(notify) == {2, 5, 0xFFFF}
    assert read_signature_hashes(None) == frozenset()
    with pytest.raises(MalformedMessage):
        read_signature_hashes(NotifyPayload(NotifyType.SIGNATURE_HASH_ALGORITHMS, b'\0'))


def test_raw_key_is_requested_and_sent_only_for_fingerprint() -> None:
    # RFC 7670, 3: a CERTREQ of encoding 15 names no authority.
    (request,) = certificate_requests(PUBLIC.fingerprint)
    assert request == CertificateRequestPayload(RAW, b'')
    assert certificate_requests(PUBLIC) == certificate_requests(PSK) == ()
    assert certificates(KEY, [request]) == (CertificatePayload(RAW, SPKI),)
    assert certificates(KEY, []) == certificates(PSK, [request]) == ()
    x509_request = CertificateRequestPayload(CertificateEncoding.X509_SIGNATURE, bytes(20))
    assert certificates(KEY, [x509_request]) == ()


def test_cert_payload_matches_rfc_7670_appendix_a_1() -> None:
    spki = bytes.fromhex(
        '3059301306072a8648ce3d020106082a8648ce3d03010703420004cb28e0999b'
        '9c7715fd0a80d8e47a77079716cbbf917dd72e97566ea1c066957c2b57c0235f'
        'b7489768d058ff4911c20fdbe71e3699d91339afbb903ee17255dc'
    )
    octets = CertificatePayload(RAW, spki).encode(0x27)
    assert octets[:9].hex(' ') == '27 00 00 60 0f 30 59 30 13'
    assert octets[5:] == spki


def test_public_key_loads_from_pem_and_der() -> None:
    pem = ed25519.Ed25519PublicKey.from_public_bytes(ED25519_PUBLIC).public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    assert PublicKey.load(pem) == PublicKey.load(SPKI) == PUBLIC
    assert PublicKey.load(b'\n' + pem.rstrip()) == PUBLIC
    assert PUBLIC.spki == SPKI


@pytest.mark.parametrize('data', [b'', b'nonsense', b'-----BEGIN PUBLIC KEY-----', SPKI[:-1]])
def test_public_key_load_refuses_other_content(data: bytes) -> None:
    with pytest.raises(CredentialError, match='no public key'):
        PublicKey.load(data)


def test_public_key_load_refuses_private_key_without_quoting() -> None:
    with pytest.raises(CredentialError) as caught:
        PublicKey.load(private_pem())
    assert str(caught.value) == (
        'this is a private key, which stays on its own router: name the public key'
    )


def test_public_key_load_names_certificate() -> None:
    with pytest.raises(CredentialError, match='this is a certificate: name its CA as trust-anchor'):
        PublicKey.load(b'-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n')


def test_preshared_key_load_refuses_private_key() -> None:
    with pytest.raises(CredentialError, match='a private key in PEM, not a pre-shared key'):
        PresharedKey.load(Secret(private_pem()))


def test_key_load_refuses_unsupported_types() -> None:
    key = ec.generate_private_key(ec.SECP224R1())
    with pytest.raises(CredentialError, match='ed25519'):
        PrivateKey.load(Secret(private_pem(key)))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(CredentialError, match='ed25519'):
        PublicKey.load(public)


def test_private_key_loads_without_final_newline() -> None:
    # What keymaterial.read_secret_file hands over.
    assert PrivateKey.load(Secret(private_pem().rstrip())) == KEY


@pytest.mark.parametrize('data', [b'', b'nonsense', SPKI])
def test_private_key_load_refuses_other_content(data: bytes) -> None:
    with pytest.raises(CredentialError, match='no private key'):
        PrivateKey.load(Secret(data))


def test_private_key_load_names_password() -> None:
    with pytest.raises(CredentialError, match='password'):
        PrivateKey.load(Secret(private_pem(password=b'secret')))


@pytest.mark.parametrize('content', [b'', b'0x'])
def test_preshared_key_load_refuses_when_empty(content: bytes) -> None:
    with pytest.raises(CredentialError, match='empty'):
        PresharedKey.load(Secret(content))


def test_preshared_key_loads_octets_and_hex() -> None:
    # RFC 7296, 2.15: ASCII strings of at least 64 octets, and a hex encoding.
    long = b'a' * 64
    assert PresharedKey.load(Secret(long)).secret == Secret(long)
    assert PresharedKey.load(Secret(b'0x00fF10')).secret == Secret(b'\x00\xff\x10')


@pytest.mark.parametrize('content', [b'0xabc', b'0xzz', b'0x\xff'])
def test_preshared_key_load_refuses_bad_hex_without_quoting(content: bytes) -> None:
    with pytest.raises(CredentialError, match='not hex') as caught:
        PresharedKey.load(Secret(content))
    assert content.decode('latin-1') not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_fingerprint_parses_and_prints() -> None:
    text = 'sha256:' + sha256(SPKI).hexdigest()
    assert str(PUBLIC.fingerprint) == text
    assert Fingerprint.parse(text) == PUBLIC.fingerprint
    assert Fingerprint.parse(text[:7] + text[7:].upper()) == PUBLIC.fingerprint


@pytest.mark.parametrize(
    'text',
    [
        '',
        'sha256:',
        'sha256:' + '0' * 63,
        'sha256:' + '0' * 65,
        'sha256:' + 'g' * 64,
        'sha256:' + ' 0' * 32,
        'sha1:' + '0' * 64,
        '0' * 64,
    ],
)
def test_fingerprint_parse_refuses_other_text(text: str) -> None:
    with pytest.raises(CredentialError):
        Fingerprint.parse(text)


def test_credentials_never_print_or_leave_process() -> None:
    for credential in (KEY, PSK):
        assert ED25519_PRIVATE.hex() not in repr(credential)
        assert 'horse' not in repr(credential)
        with pytest.raises(TypeError, match='never serialised'):
            pickle.dumps(credential)


def test_credentials_are_equal_when_configuration_is_reread() -> None:
    assert PrivateKey.load(Secret(private_pem())) == KEY
    assert hash(PrivateKey.load(Secret(private_pem()))) == hash(KEY)
    assert KEY != OTHER
    assert PresharedKey(Secret(b'x')) == PresharedKey(Secret(b'x'))
    assert KEY != 'a key'


def test_credentials_survive_deep_copy() -> None:
    # ExaBGP deep-copies its neighbors.
    assert copy.deepcopy(PSK) == PSK
    assert copy.deepcopy(KEY) is KEY
    assert copy.copy(KEY) is KEY
