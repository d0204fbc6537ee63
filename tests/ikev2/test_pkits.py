"""NIST's Public Key Interoperability Test Suite: 223 certification paths, and what to say to them.

vectors/pkits.zip holds the certificates and CRLs of PKITS 1.0.1 (NIST, 2011; public domain), from
the vectors of pyca/cryptography 50.0.2. The name of an end entity's file says whether it is
valid. Everything is offered at once as intermediate certificates and CRLs, so paths are found as
well as judged; every issuer must have a current CRL. Where we differ, a table says why: all but
one of those are refusals.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

import pytest

from ikev2.authentication.x509.certificates import Certificate, CertificateError
from ikev2.authentication.x509.crl import RevocationList
from ikev2.authentication.x509.paths import find_path

_ARCHIVE = Path(__file__).parent / 'vectors' / 'pkits.zip'
_WHEN = 1_700_000_000.0  # the suite's good certificates are valid from 2010 to 2030

DSA = 'DSA (and SHA-1)'
POLICIES = 'policy mapping and policy constraints, critical or not'
PARTIAL = 'CRLs with an issuing distribution point: indirect, or only for some'
OTHER_KEY = 'a CRL signed with a key of its own, whose certificate is not in the path'
REFUSED = {
    'ValidDSASignaturesTest4': DSA,
    'ValidDSAParameterInheritanceTest5': DSA,
    'ValidBasicSelfIssuedNewWithOldTest4': PARTIAL,
    'ValidBasicSelfIssuedCRLSigningKeyTest6': PARTIAL,
    'ValidSeparateCertificateandCRLKeysTest19': OTHER_KEY,
    'AllCertificatesSamePoliciesTest10': POLICIES,
    'AllCertificatesSamePoliciesTest13': POLICIES,
    'AllCertificatesanyPolicyTest11': POLICIES,
    'AnyPolicyTest14': POLICIES,
    'DifferentPoliciesTest12': POLICIES,
    'DifferentPoliciesTest4': POLICIES,
    'DifferentPoliciesTest5': POLICIES,
    'DifferentPoliciesTest7': POLICIES,
    'DifferentPoliciesTest8': POLICIES,
    'DifferentPoliciesTest9': POLICIES,
    'OverlappingPoliciesTest6': POLICIES,
    'UserNoticeQualifierTest18': POLICIES,
    'ValidrequireExplicitPolicyTest1': POLICIES,
    'ValidrequireExplicitPolicyTest2': POLICIES,
    'ValidrequireExplicitPolicyTest4': POLICIES,
    'ValidSelfIssuedrequireExplicitPolicyTest6': POLICIES,
    'ValidPolicyMappingTest1': POLICIES,
    'ValidPolicyMappingTest3': POLICIES,
    'ValidPolicyMappingTest5': POLICIES,
    'ValidPolicyMappingTest6': POLICIES,
    'ValidPolicyMappingTest9': POLICIES,
    'ValidPolicyMappingTest11': POLICIES,
    'ValidPolicyMappingTest12': POLICIES,
    'ValidPolicyMappingTest13': POLICIES,
    'ValidPolicyMappingTest14': POLICIES,
    'ValidinhibitPolicyMappingTest2': POLICIES,
    'ValidinhibitPolicyMappingTest4': POLICIES,
    'ValidSelfIssuedinhibitPolicyMappingTest7': POLICIES,
    'ValidinhibitAnyPolicyTest2': POLICIES,
    'ValidSelfIssuedinhibitAnyPolicyTest7': POLICIES,
    'ValidSelfIssuedinhibitAnyPolicyTest9': POLICIES,
    'inhibitAnyPolicyTest3': POLICIES,
    'ValiddistributionPointTest1': PARTIAL,
    'ValiddistributionPointTest4': PARTIAL,
    'ValiddistributionPointTest5': PARTIAL,
    'ValiddistributionPointTest7': PARTIAL,
    'ValidonlyContainsCACertsTest13': PARTIAL,
    'ValidonlySomeReasonsTest18': PARTIAL,
    'ValidonlySomeReasonsTest19': PARTIAL,
    'ValidIDPwithindirectCRLTest22': PARTIAL,
    'ValidIDPwithindirectCRLTest24': PARTIAL,
    'ValidIDPwithindirectCRLTest25': PARTIAL,
    'ValidcRLIssuerTest28': PARTIAL,
    'ValidcRLIssuerTest29': PARTIAL,
    'ValidcRLIssuerTest30': PARTIAL,
    'ValidcRLIssuerTest33': PARTIAL,
    # Its base CRL has it on hold; the delta that takes it off isn't read.
    'ValiddeltaCRLTest5': 'delta CRLs',
}
# Revoked in a delta CRL only, which an application needn't process (RFC 5280, 5.2.4).
TAKEN = {'InvaliddeltaCRLTest4': 'delta CRLs'}

_T = TypeVar('_T')

# The library announces that it will refuse such serial numbers itself.
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")


@cache
def _files() -> dict[str, bytes]:
    with zipfile.ZipFile(_ARCHIVE) as archive:
        return {Path(name).stem: archive.read(name) for name in archive.namelist()}


def _readable(names: list[str], read: Callable[[bytes], _T]) -> list[_T]:
    found = []
    for name in names:
        try:
            found.append(read(_files()[name]))
        except CertificateError:
            continue
    return found


@cache
def _authorities() -> list[Certificate]:
    names = [name for name in _files() if name.endswith(('Cert', 'Certificate'))]
    return _readable(names, Certificate.read)


@cache
def _lists() -> list[RevocationList]:
    return _readable([name for name in _files() if 'CRL' in name], RevocationList.read)


def _why_not(name: str) -> str:
    """Empty if a path holds."""
    try:
        anchor = Certificate.read(_files()['TrustAnchorRootCertificate'])
        leaf = Certificate.read(_files()[name + 'EE'])
        find_path(leaf, _authorities(), [anchor], _lists(), _WHEN, crl_required=True)
    except CertificateError as error:
        return str(error)
    return ''


TESTS = sorted(name.removesuffix('EE') for name in _files() if name.endswith('EE'))


def test_pkits_suite_is_complete() -> None:
    assert len(TESTS) == 223
    assert set(REFUSED) | set(TAKEN) <= set(TESTS)


@pytest.mark.parametrize('name', [n for n in TESTS if n.startswith('Invalid') and n not in TAKEN])
def test_pkits_invalid_paths_are_refused(name: str) -> None:
    assert _why_not(name)


@pytest.mark.parametrize(
    'name', [n for n in TESTS if not n.startswith('Invalid') and n not in REFUSED]
)
def test_pkits_valid_paths_are_accepted(name: str) -> None:
    assert _why_not(name) == ''


@pytest.mark.parametrize('name', REFUSED)
def test_pkits_unsupported_paths_are_refused(name: str) -> None:
    assert _why_not(name), REFUSED[name]


@pytest.mark.parametrize('name', TAKEN)
def test_pkits_paths_we_accept_beyond_suite_are_listed(name: str) -> None:
    assert _why_not(name) == ''
