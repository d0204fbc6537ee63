"""Every number of IKEv2 that this package reads or writes, and the numbers of our own profile.

One enumeration for each IANA registry of "Internet Key Exchange Version 2 (IKEv2) Parameters".
Numbers from a private-use range are marked; they mean something only between two peers that sent
each other `VENDOR_ID`. Limits and timers that are our choice don't belong here.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

IKE_MAJOR_VERSION: Final = 2  # RFC 7296, 3.1
IKE_MINOR_VERSION: Final = 0

# First 16 octets of SHA-256 over b'IKEv2 RP SA for TCP-AO, profile 1'.
VENDOR_ID: Final = bytes.fromhex('666dabb99f967d6741fdf6774d5f6084')


class HeaderFlag(IntEnum):
    """Flags octet of the IKE header (RFC 7296, 3.1); the other five bits are ignored."""

    INITIATOR = 0x08
    VERSION = 0x10
    RESPONSE = 0x20


class ExchangeType(IntEnum):
    """IKEv2 Exchange Types."""

    IKE_SA_INIT = 34  # RFC 7296, 1.2
    IKE_AUTH = 35  # RFC 7296, 1.2
    CREATE_CHILD_SA = 36  # RFC 7296, 1.3
    INFORMATIONAL = 37  # RFC 7296, 1.4
    IKE_SESSION_RESUME = 38  # RFC 5723, 4.3
    IKE_INTERMEDIATE = 43  # RFC 9242, 3
    IKE_FOLLOWUP_KE = 44  # RFC 9370, 2.2.4


class PayloadType(IntEnum):
    """IKEv2 Payload Types (RFC 7296, 3.2)."""

    NO_NEXT_PAYLOAD = 0
    SA = 33  # RFC 7296, 3.3
    KE = 34  # RFC 7296, 3.4
    IDI = 35  # RFC 7296, 3.5
    IDR = 36  # RFC 7296, 3.5
    CERT = 37  # RFC 7296, 3.6
    CERTREQ = 38  # RFC 7296, 3.7
    AUTH = 39  # RFC 7296, 3.8
    NONCE = 40  # RFC 7296, 3.9
    NOTIFY = 41  # RFC 7296, 3.10
    DELETE = 42  # RFC 7296, 3.11
    VENDOR_ID = 43  # RFC 7296, 3.12
    TSI = 44  # RFC 7296, 3.13
    TSR = 45  # RFC 7296, 3.13
    SK = 46  # RFC 7296, 3.14
    CP = 47  # RFC 7296, 3.15
    EAP = 48  # RFC 7296, 3.16
    SKF = 53  # RFC 7383, 2.5


class ProtocolId(IntEnum):
    """IKEv2 Security Protocol Identifiers (RFC 7296, 3.3.1)."""

    NONE = 0  # a Notify that concerns no SA, or the IKE SA itself (RFC 7296, 3.10)
    IKE = 1
    AH = 2
    ESP = 3
    # Private use. The draft asked for 6, which IANA has since given to GIKE_UPDATE.
    TCP_AO = 201  # draft-mahesh-karp-rkmp-06, 6.1.1


class TransformType(IntEnum):
    """Transform Type Values (RFC 7296, 3.3.2)."""

    ENCR = 1
    PRF = 2
    INTEG = 3
    KE = 4  # renamed from D-H by RFC 9370
    SEQUENCE_NUMBERS = 5  # ESN
    ADDKE1 = 6  # RFC 9370, 2.2.1
    ADDKE2 = 7
    ADDKE3 = 8
    ADDKE4 = 9
    ADDKE5 = 10
    ADDKE6 = 11
    ADDKE7 = 12
    # Private use. The draft asked for 6 for TCP options.
    TCP_OPTIONS = 241  # draft-mahesh-karp-rkmp-06, 6.1.1.1
    TCP_AO_KDF = 242


class AttributeType(IntEnum):
    """IKEv2 Transform Attribute Types (RFC 7296, 3.3.5)."""

    KEY_LENGTH = 14  # in bits; always in the two-octet (TV) form


class EncryptionId(IntEnum):
    """Transform Type 1, Encryption Algorithm."""

    AES_CBC = 12  # RFC 3602; key length attribute mandatory
    AES_GCM_16 = 20  # RFC 5282; key length attribute mandatory
    CHACHA20_POLY1305 = 28  # RFC 7634; key length attribute forbidden


class PrfId(IntEnum):
    """Transform Type 2, Pseudorandom Function."""

    HMAC_SHA1 = 2  # RFC 2104; named for messages, never accepted (RFC 8247, 2.2)
    HMAC_SHA2_256 = 5  # RFC 4868
    HMAC_SHA2_384 = 6  # RFC 4868
    HMAC_SHA2_512 = 7  # RFC 4868


class IntegrityId(IntEnum):
    """Transform Type 3, Integrity Algorithm; in an RP SA the MAC of the MKT."""

    NONE = 0
    HMAC_SHA1_96 = 2  # RFC 2404; in an RP SA HMAC-SHA-1-96 of RFC 5926
    AES_CMAC_96 = 8  # RFC 4494; in an RP SA AES-128-CMAC-96 of RFC 5926
    HMAC_SHA2_256_128 = 12  # RFC 4868
    HMAC_SHA2_384_192 = 13  # RFC 4868
    HMAC_SHA2_512_256 = 14  # RFC 4868
    KMAC256_128 = 1024  # private use
    HMAC_SHA2_256_96 = 1025  # private use


class KeyExchangeId(IntEnum):
    """Transform Type 4, Key Exchange Method (also the values of ADDKE1 to ADDKE7)."""

    NONE = 0
    MODP_2048 = 14  # RFC 3526, 3
    MODP_3072 = 15  # RFC 3526, 4
    MODP_4096 = 16  # RFC 3526, 5
    ECP_256 = 19  # RFC 5903, 3.1
    ECP_384 = 20  # RFC 5903, 3.2
    ECP_521 = 21  # RFC 5903, 3.3
    CURVE25519 = 31  # RFC 8031
    CURVE448 = 32  # RFC 8031
    ML_KEM_512 = 35  # draft-ietf-ipsecme-ikev2-mlkem
    ML_KEM_768 = 36
    ML_KEM_1024 = 37


class TcpOptionsId(IntEnum):
    """Transform Type 241 (private use): are TCP options covered by the MAC (RFC 5925, 5.1)?"""

    NOT_COVERED = 0  # draft-mahesh-karp-rkmp-06, figure 2
    COVERED = 1


class TcpAoKdfId(IntEnum):
    """Transform Type 242 (private use): the key derivation function of the MKT."""

    KDF_HMAC_SHA1 = 1  # RFC 5926, 3.1.1.1
    KDF_AES_128_CMAC = 2  # RFC 5926, 3.1.1.2
    HKDF_SHA256 = 3  # draft-ietf-tcpm-tcp-ao-algs
    KMAC256 = 4  # draft-ietf-tcpm-tcp-ao-algs
    KDF_HMAC_SHA256 = 5  # counter mode, as the Linux kernel has it


class NotifyType(IntEnum):
    """IKEv2 Notify Message Types (RFC 7296, 3.10.1): errors below 16384, status from there."""

    UNSUPPORTED_CRITICAL_PAYLOAD = 1
    INVALID_IKE_SPI = 4
    INVALID_MAJOR_VERSION = 5
    INVALID_SYNTAX = 7
    INVALID_MESSAGE_ID = 9
    INVALID_SPI = 11
    NO_PROPOSAL_CHOSEN = 14
    INVALID_KE_PAYLOAD = 17
    AUTHENTICATION_FAILED = 24
    SINGLE_PAIR_REQUIRED = 34
    NO_ADDITIONAL_SAS = 35
    INTERNAL_ADDRESS_FAILURE = 36
    FAILED_CP_REQUIRED = 37
    TS_UNACCEPTABLE = 38
    INVALID_SELECTORS = 39
    TEMPORARY_FAILURE = 43
    CHILD_SA_NOT_FOUND = 44
    STATE_NOT_FOUND = 47  # RFC 9370, 2.2.4
    # Private use, error range. Data: one octet per KeyID that the sender can't take as RecvID.
    KEYID_IN_USE = 8193

    INITIAL_CONTACT = 16384
    SET_WINDOW_SIZE = 16385
    ADDITIONAL_TS_POSSIBLE = 16386
    IPCOMP_SUPPORTED = 16387
    NAT_DETECTION_SOURCE_IP = 16388
    NAT_DETECTION_DESTINATION_IP = 16389
    COOKIE = 16390
    USE_TRANSPORT_MODE = 16391
    HTTP_CERT_LOOKUP_SUPPORTED = 16392
    REKEY_SA = 16393
    ESP_TFC_PADDING_NOT_SUPPORTED = 16394
    NON_FIRST_FRAGMENTS_ALSO = 16395
    MOBIKE_SUPPORTED = 16396  # RFC 4555, 4.2.1
    AUTH_LIFETIME = 16403  # RFC 4478
    MULTIPLE_AUTH_SUPPORTED = 16404  # RFC 4739
    EAP_ONLY_AUTHENTICATION = 16417  # RFC 5998
    CHILDLESS_IKEV2_SUPPORTED = 16418  # RFC 6023, 3
    IKEV2_MESSAGE_ID_SYNC_SUPPORTED = 16420  # RFC 6311
    IKEV2_FRAGMENTATION_SUPPORTED = 16430  # RFC 7383, 2.3
    SIGNATURE_HASH_ALGORITHMS = 16431  # RFC 7427, 4
    USE_PPK = 16435  # RFC 8784, 3
    PPK_IDENTITY = 16436  # RFC 8784, 3
    NO_PPK_AUTH = 16437  # RFC 8784, 3
    INTERMEDIATE_EXCHANGE_SUPPORTED = 16438  # RFC 9242, 3.1
    ADDITIONAL_KEY_EXCHANGE = 16441  # RFC 9370, 2.2.4
    SUPPORTED_AUTH_METHODS = 16443  # RFC 9593, 3
    DOWNGRADE_PREVENTION = 16447  # draft-ietf-ipsecme-ikev2-downgrade-prevention
    # Private use, status range.
    MKT_LIFETIME = 41001  # 4 octets: hard lifetime in seconds from one's own installation
    SESSION_ID = 41002  # octet n, n times AFI (2) and SAFI (1), service name in ASCII


FIRST_STATUS_NOTIFY: Final = 16384  # RFC 7296, 3.10.1
KNOWN_ERRORS: Final = frozenset(int(n) for n in NotifyType if n < FIRST_STATUS_NOTIFY)


class IdType(IntEnum):
    """IKEv2 Identification Payload ID Types (RFC 7296, 3.5)."""

    IPV4_ADDR = 1
    FQDN = 2
    RFC822_ADDR = 3
    IPV6_ADDR = 5
    DER_ASN1_DN = 9
    DER_ASN1_GN = 10
    KEY_ID = 11


class CertificateEncoding(IntEnum):
    """IKEv2 Certificate Encodings (RFC 7296, 3.6)."""

    X509_SIGNATURE = 4
    CRL = 7
    HASH_AND_URL_X509 = 12
    HASH_AND_URL_BUNDLE = 13
    OCSP_CONTENT = 14  # RFC 4806
    RAW_PUBLIC_KEY = 15  # RFC 7670, 3


class AuthMethod(IntEnum):
    """IKEv2 Authentication Method (RFC 7296, 3.8)."""

    RSA_DIGITAL_SIGNATURE = 1
    SHARED_KEY_MIC = 2
    ECDSA_SHA256_P256 = 9  # RFC 4754
    ECDSA_SHA384_P384 = 10  # RFC 4754
    ECDSA_SHA512_P521 = 11  # RFC 4754
    NULL = 13  # RFC 7619
    DIGITAL_SIGNATURE = 14  # RFC 7427, 3


class SignatureHash(IntEnum):
    """IKEv2 Hash Algorithms (RFC 7427, 7)."""

    SHA1 = 1
    SHA2_256 = 2
    SHA2_384 = 3
    SHA2_512 = 4
    IDENTITY = 5  # RFC 8420: the signature scheme hashes for itself (Ed25519, Ed448)


class PpkIdType(IntEnum):
    """IKEv2 Post-quantum Preshared Key ID Types (RFC 8784, 5.1)."""

    OPAQUE = 1
    FIXED = 2


class TrafficSelectorType(IntEnum):
    """IKEv2 Traffic Selector Types (RFC 7296, 3.13.1)."""

    IPV4_ADDR_RANGE = 7
    IPV6_ADDR_RANGE = 8


class IpProtocol(IntEnum):
    """Protocol numbers in Traffic Selectors."""

    ANY = 0
    TCP = 6


class RpSuite(NamedTuple):
    """The numbers of a TCP-AO algorithm name in a routing-protocol SA."""

    integ: IntegrityId
    kdf: TcpAoKdfId
    master_key_length: int  # octets taken from KEYMAT


RP_SUITES: Final[dict[str, RpSuite]] = {
    'hmac-sha-1-96': RpSuite(IntegrityId.HMAC_SHA1_96, TcpAoKdfId.KDF_HMAC_SHA1, 20),
    'aes-128-cmac-96': RpSuite(IntegrityId.AES_CMAC_96, TcpAoKdfId.KDF_AES_128_CMAC, 16),
    'hmac-sha-256-96': RpSuite(IntegrityId.HMAC_SHA2_256_96, TcpAoKdfId.KDF_HMAC_SHA256, 32),
    'hmac-sha-256-128': RpSuite(IntegrityId.HMAC_SHA2_256_128, TcpAoKdfId.KDF_HMAC_SHA256, 32),
    'hmac-sha256-128-hkdf': RpSuite(IntegrityId.HMAC_SHA2_256_128, TcpAoKdfId.HKDF_SHA256, 32),
    'kmac256-128': RpSuite(IntegrityId.KMAC256_128, TcpAoKdfId.KMAC256, 32),
}

# What a proposal without a KDF transform means: the draft's form, where INTEG implies the KDF
# (draft-mahesh-karp-rkmp-06, 6.1.1.1). Other INTEG values have no such default.
IMPLIED_KDF: Final[dict[int, TcpAoKdfId]] = {
    IntegrityId.HMAC_SHA1_96: TcpAoKdfId.KDF_HMAC_SHA1,
    IntegrityId.AES_CMAC_96: TcpAoKdfId.KDF_AES_128_CMAC,
}
