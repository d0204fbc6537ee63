"""Certification paths beyond what NIST's suite asks: bounds, loops, Edwards curves, messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from ikev2.authentication.x509.certificates import CertificateError
from ikev2.authentication.x509.crl import RevocationList
from ikev2.authentication.x509.paths import (
    LONGEST_PATH,
    MOST_SIGNATURES,
    Path,
    _Search,
    check_path,
    find_path,
)
from ikev2.authentication.x509.signed import Signed
from ikev2.errors import AuthenticationFailed
from tests.ikev2.pki import AT, DAY, KIND_NAMES, LEAF_USAGE, Holder, root

ROOT = root()
CA = ROOT.ca('ca')
R1 = x509.DNSName('r1.lab')


def find(leaf: Holder, *intermediates: Holder, anchor: Holder = ROOT, when: float = AT) -> Path:
    return find_path(
        leaf.certificate,
        [holder.certificate for holder in intermediates],
        [anchor.certificate],
        [],
        when,
    )


def refused(why: str, leaf: Holder, *intermediates: Holder, when: float = AT) -> None:
    with pytest.raises(CertificateError, match=why):
        find(leaf, *intermediates, when=when)


def test_find_path_accepts_certificate_of_anchor() -> None:
    leaf = ROOT.leaf('r1', R1)
    assert find(leaf).certificates == (leaf.certificate, ROOT.certificate)


@pytest.mark.parametrize('kind', KIND_NAMES)
def test_find_path_accepts_intermediate_of_every_kind_of_key(kind: str) -> None:
    anchor = root('CN=top', kind=kind, number=1)
    authority = anchor.ca('ca', kind=kind, number=2)
    leaf = authority.leaf('r1', R1, kind=kind, number=3)
    path = find(leaf, authority, anchor=anchor)
    assert path.certificates == (leaf.certificate, authority.certificate, anchor.certificate)


def test_find_path_ignores_order_and_foreign_certificates() -> None:
    below = CA.ca('below')
    leaf = below.leaf('r1', R1)
    stranger = root('CN=stranger')
    for order in ([below, CA, stranger], [stranger, CA, below]):
        assert len(find(leaf, *order).certificates) == 4


def test_find_path_fails_without_intermediate() -> None:
    refused('CN=r1 .* not issued by a configured trust anchor', CA.leaf('r1'))


def test_find_path_refuses_anchor_name_with_other_key() -> None:
    refused('not issued by a configured trust anchor', root().leaf('r1'))


def test_find_path_refuses_self_signed_certificate() -> None:
    refused('not issued', root('CN=r1'))


def test_check_validity_includes_first_and_last_second() -> None:
    leaf = ROOT.leaf('r1', not_before=AT, not_after=AT + 10)
    find(leaf, when=AT)
    find(leaf, when=AT + 10)
    refused('CN=r1 is not valid yet', leaf, when=AT - 1)
    refused('CN=r1 has expired', leaf, when=AT + 11)


def test_check_validity_names_the_dates_and_the_clock() -> None:
    leaf = ROOT.leaf('r1', not_before=AT, not_after=AT + 10)
    ended, clock = (f'{datetime.fromtimestamp(at, UTC):%Y-%m-%d}' for at in (AT + 10, AT + 86400))
    refused(f'it ended at {ended}T', leaf, when=AT + 86400)
    refused(f'the clock of this host says {clock} ', leaf, when=AT + 86400)


def test_find_path_needs_every_certificate_valid() -> None:
    old = ROOT.ca('old', not_after=AT - 1)
    refused('CN=old has expired', old.leaf('r1'), old)
    anchor = root('CN=expired', not_after=AT - 1)
    with pytest.raises(CertificateError, match='CN=expired has expired'):
        find(anchor.leaf('r1'), anchor=anchor)


def test_path_ends_when_first_certificate_expires() -> None:
    soon = ROOT.ca('soon', not_after=AT + 5)
    assert find(soon.leaf('r1'), soon).until == AT + 5
    assert find(ROOT.leaf('r1', not_after=AT + 3)).until == AT + 3
    assert find(ROOT.leaf('r1')).until == AT + DAY


def test_find_path_refuses_leaf_as_issuer() -> None:
    # The classic attack on careless verifiers.
    router = ROOT.leaf('r2')
    refused('CN=r2 is not a CA', router.leaf('r1'), router)


def test_find_path_needs_leaf_that_may_sign() -> None:
    refused('key usage of CN=ca2 does not allow IKE', ROOT.ca('ca2'))


def test_path_length_counts_cas_below() -> None:
    # RFC 5280, 4.2.1.9.
    none = ROOT.ca('none', length=0)
    find(none.leaf('r1'), none)
    below = none.ca('below')
    refused('below CN=none is longer', below.leaf('r1'), none, below)
    one = ROOT.ca('one', length=1)
    below = one.ca('below')
    find(below.leaf('r1'), one, below)


def test_find_path_applies_constraints_of_anchor() -> None:
    anchor = root('CN=top', x509.NameConstraints([x509.DNSName('lab')], None))
    find(anchor.leaf('r1', R1), anchor=anchor)
    with pytest.raises(CertificateError, match='CN=top may not issue certificates for CN=r1'):
        find(anchor.leaf('r1', x509.DNSName('r1.example')), anchor=anchor)


def test_name_constraints_apply_to_addresses() -> None:
    # RFC 5280, 4.2.1.10; NIST's suite has no such test.
    def allowed(address: str, permitted: list[str], excluded: list[str]) -> bool:
        authority = ROOT.ca(
            'net',
            x509.NameConstraints(
                [x509.IPAddress(ip_network(n)) for n in permitted] or None,
                [x509.IPAddress(ip_network(n)) for n in excluded] or None,
            ),
        )
        leaf = authority.leaf('r1', x509.IPAddress(ip_address(address)))
        try:
            find(leaf, authority)
        except CertificateError as error:
            assert 'may not issue' in str(error)
            return False
        return True

    assert allowed('192.0.2.1', ['192.0.2.0/24'], [])
    assert not allowed('192.0.3.1', ['192.0.2.0/24'], [])
    assert not allowed('2001:db8::1', ['192.0.2.0/24'], [])
    assert allowed('2001:db8::1', ['192.0.2.0/24', '2001:db8::/32'], [])
    assert not allowed('192.0.2.1', ['192.0.2.0/24'], ['192.0.2.1/32'])
    assert not allowed('192.0.2.1', [], ['0.0.0.0/0'])
    assert allowed('2001:db8::1', [], ['0.0.0.0/0'])


@pytest.mark.parametrize(
    ('uri', 'permitted', 'excluded'),
    [
        ('urn:isbn:1', None, 'lab'),
        ('urn:isbn:1', 'lab', None),
        ('http://192.0.2.1/', None, 'lab'),
        ('http://[2001:db8::1]/', None, 'lab'),
        ('http://[/', None, 'lab'),
    ],
)
def test_name_constraints_refuse_uri_without_host(
    uri: str, permitted: str | None, excluded: str | None
) -> None:
    # RFC 5280, 4.2.1.10: MUST reject.
    constraints = x509.NameConstraints(
        [x509.UniformResourceIdentifier(permitted)] if permitted else None,
        [x509.UniformResourceIdentifier(excluded)] if excluded else None,
    )
    authority = ROOT.ca('net', constraints)
    refused('may not issue', authority.leaf('r1', x509.UniformResourceIdentifier(uri)), authority)
    find(authority.leaf('r1', R1), authority)


def test_name_constraints_refuse_unsupported_kind() -> None:
    constraints = x509.NameConstraints([x509.RegisteredID(x509.ObjectIdentifier('1.2.3'))], None)
    with pytest.raises(CertificateError, match='name constraints of kind RegisteredID'):
        _ = ROOT.ca('odd', constraints).certificate


def test_name_constraints_apply_to_mail_in_subject() -> None:
    # RFC 5280, 4.2.1.10: where there is no alternative name.
    authority = ROOT.ca('net', x509.NameConstraints([x509.RFC822Name('lab')], None))
    find(authority.leaf('1.2.840.113549.1.9.1=noc@lab'), authority)
    refused('may not issue', authority.leaf('1.2.840.113549.1.9.1=noc@example'), authority)


def test_name_constraints_may_allow_one_mailbox() -> None:
    authority = ROOT.ca('net', x509.NameConstraints([x509.RFC822Name('noc@LAB')], None))
    find(authority.leaf('1.2.840.113549.1.9.1=noc@lab'), authority)
    refused('may not issue', authority.leaf('1.2.840.113549.1.9.1=NOC@lab'), authority)


def test_find_path_refuses_too_long_path() -> None:
    chain = [ROOT]
    for number in range(LONGEST_PATH - 2):
        chain.append(chain[-1].ca(f'ca{number}', number=number))
    find(chain[-1].leaf('r1'), *chain[1:])
    chain.append(chain[-1].ca('one too many', number=99))
    refused('not issued', chain[-1].leaf('r1'), *chain[1:])


def test_find_path_ends_when_certificates_form_circles() -> None:
    # Two CAs that certify each other, and no anchor in sight.
    a, b = root('CN=a', number=1), root('CN=b', number=2)
    crossed = [a.ca('b', number=2), b.ca('a', number=1)]
    refused('not issued', a.leaf('r1'), *crossed)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return the results of all checks of signatures on a certificate or CRL."""
    found: list[bool] = []
    original = Signed.by

    def by(self: Signed, key: object) -> bool:
        found.append(original(self, key))
        return found[-1]

    monkeypatch.setattr(Signed, 'by', by)
    return found


def crowd_of(number: int, name: str, anchor: Holder = ROOT) -> list[Holder]:
    """CAs of one name under an anchor, each with a key of its own, and each certified by each."""
    firsts = [anchor.ca(name, number=index) for index in range(number)]
    return [*firsts, *(one.ca(name, number=index) for one in firsts for index in range(number))]


def test_search_is_bounded_when_genuine_cas_are_crossed(checked: list[bool]) -> None:
    crowd = crowd_of(8, 'crowd')
    leaf = replace(crowd[0].leaf('r1').certificate, signed=ROOT.certificate.signed)
    search = _Search(leaf, [holder.certificate for holder in crowd], [ROOT.certificate])
    assert list(search.paths()) == []
    assert len(checked) <= MOST_SIGNATURES < 100


@pytest.mark.parametrize('sent', ['no chain', 'a chain to nobody', 'its own CAs of our names'])
def test_unknown_certificate_costs_one_check_at_most(sent: str, checked: list[bool]) -> None:
    """However many certificates it sends: 16 of them cost 32 checks, of its choice of keys."""
    false_root = root(number=77)
    crowd = {
        'no chain': [],
        'a chain to nobody': crowd_of(3, 'nobody', root('CN=nobody', number=78)),
        'its own CAs of our names': crowd_of(3, 'ca', false_root),
    }[sent]
    leaf = (crowd[0] if crowd else false_root).leaf('r1')
    checked.clear()
    refused('not issued', leaf, *crowd)
    assert checked == ([] if sent == 'a chain to nobody' else [False])


def test_unknown_certificate_costs_one_check_below_a_ca(checked: list[bool]) -> None:
    """Certificates are public: any host can send the true CA's beside its own."""
    forged = [root('CN=ca', number=number).leaf('r1') for number in (70, 71)]
    crowd = crowd_of(3, 'ca', root('CN=ca', number=72))
    checked.clear()
    refused('not issued', forged[0], CA, *crowd)
    assert checked.count(False) == 1


def test_crls_are_not_read_when_the_peer_lacks_the_key(checked: list[bool]) -> None:
    seen: list[str] = []

    def possession() -> None:
        raise AuthenticationFailed('no signature')

    def lists() -> Iterator[RevocationList]:
        seen.append('a CRL')
        yield from ()

    with pytest.raises(AuthenticationFailed):
        find_path(
            CA.leaf('r1').certificate,
            [CA.certificate],
            [ROOT.certificate],
            lists(),
            AT,
            possession=possession,
        )
    assert not seen


def test_search_finds_the_path_when_an_anchor_has_a_new_key(checked: list[bool]) -> None:
    """Two anchors of one name, without key identifiers: the wrong one is tried and forgiven."""
    old, new = root('CN=rolled', number=80), root('CN=rolled', number=81)
    issuer = new.ca('below', number=82)
    leaf = issuer.leaf('r1')
    anchors = [old.certificate, new.certificate]
    assert find_path(leaf.certificate, [issuer.certificate], anchors, [], AT).certificates
    assert checked.count(False) <= 1


def test_find_path_tries_second_path_when_first_is_broken() -> None:
    # A CA with an old certificate and a new one.
    old = ROOT.ca('twice', number=7, not_after=AT - 1)
    new = ROOT.ca('twice', number=7)
    leaf = new.leaf('r1')
    assert find(leaf, old, new).certificates[1] == new.certificate
    assert find(leaf, new, old).certificates[1] == new.certificate
    refused('CN=twice has expired', leaf, old)


def test_check_path_goes_from_leaf_up() -> None:
    # What an operator reads first is about the peer's own certificate.
    old = ROOT.ca('old', not_after=AT - 1)
    leaf = old.leaf('r1', not_after=AT - 1)
    path = [leaf.certificate, old.certificate, ROOT.certificate]
    with pytest.raises(CertificateError, match='CN=r1 has expired'):
        check_path(path, [], AT)


@given(st.permutations(range(6)), st.sets(st.integers(0, 5)))
def test_check_path_fails_without_each_requirement(order: list[int], missing: set[int]) -> None:
    """Five CAs in a row and an unknown one: the path is found exactly if none of the five lacks."""
    offered = [ROW[number] for number in order if number not in missing]
    try:
        find(ROW_LEAF, *offered)
        found = True
    except CertificateError:
        found = False
    assert found == (not missing & set(range(5)))


def _row() -> list[Holder]:
    row = [ROOT.ca('row0', number=20)]
    for number in range(1, 5):
        row.append(row[-1].ca(f'row{number}', number=20 + number))
    return [*row, root('CN=row2')]


ROW = _row()
ROW_LEAF = ROW[4].issue('r1', LEAF_USAGE)
