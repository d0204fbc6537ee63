"""Reasons for a session without a protected connection: the hint is chosen by the reason.

Texts are for people and may be reworded; nothing is decided by them.
`gatekeeper.reporting.adapter_names` fills in the words in braces.
"""

from __future__ import annotations

from enum import Enum, IntEnum

from ikev2.constants import NotifyType
from ikev2.errors import ProofFault
from ikev2.events import Cause
from tcpao import installer


class Weight(IntEnum):
    """The weight of a reason: the heavier of two is shown."""

    NO_SESSION = 0
    """No connection comes up, which does not tell the cause."""
    PEER = 1
    """The peer reported it."""
    OURS = 2
    """This end found the fault itself."""


_NONE, _PEER, _OURS = Weight

_AGAIN = 'it is tried again'
_KEYS = 'see {show} at both ends'


class Reason(Enum):
    """A stable word for programs, the weight, and the hint for an operator."""

    def __init__(self, word: str, weight: Weight, hint: str) -> None:
        self.word = word
        self.weight = weight
        self.hint = hint

    # --- IKE ------------------------------------------------------------------------------------

    NO_IKE_ANSWER = (
        'no-ike-answer',
        _NONE,
        'check that the peer runs IKE, its address and ike-port, that it has us as a neighbor, '
        'and UDP 500/4500 through firewalls; gatekeeper probe tries it step by step',
    )
    SEND_REFUSED = (
        'send-refused',
        _OURS,
        'look at the route to the peer, at local-address, and at the firewall of this host',
    )
    NOBODY_AT_PORT = (
        'port-unreachable',
        _PEER,
        'start the daemon there, or correct its address or ike-port; a firewall that rejects says '
        'the same',
    )
    UNREACHABLE = (
        'unreachable',
        _PEER,
        'start the daemon there, or correct the address or ike-port; a firewall that rejects says '
        'the same',
    )
    UNKNOWN_SOURCE = (
        'unknown-source',
        _OURS,
        'a router that has us as a neighbor, and that we have not; or the wrong local-address '
        'there',
    )
    PSK_DIFFERS = (
        'psk-differs',
        _OURS,
        'put the same psk-file on both routers (and the same ppk-file, if there is one)',
    )
    PPK_DIFFERS = (
        'ppk-differs',
        _OURS,
        'the same ppk-file and ppk-id at both ends, or ppk-required false',
    )
    CERTIFICATE_REFUSED = (
        'certificate-refused',
        _OURS,
        "renew the peer's certificate, or correct trust-anchor, crl or peer-id here, as it says",
    )
    METHOD_DIFFERS = (
        'method-differs',
        _OURS,
        'the same kind of credential at both ends: a pre-shared key, or signature keys',
    )
    KEY_DIFFERS = (
        'key-differs',
        _OURS,
        "compare peer-key or peer-fingerprint here with the peer's key: gatekeeper fingerprint",
    )
    PROOF_ENDED = (
        'proof-ended',
        _OURS,
        "renew the peer's certificate, or correct trust-anchor, crl or the clock here, as it says",
    )
    UNRENEWED = (
        'credential-unrenewed',
        _OURS,
        'the new credential at both ends within that time; the session comes up again under it',
    )
    CREDENTIAL = (
        'credential',
        _OURS,
        'compare local-id, peer-id and the credential at both ends',
    )
    REFUSED_US = (
        'refused-us',
        _PEER,
        "why is in the peer's log: compare local-id, peer-id and the credential at both ends",
    )
    WRONG_IDENTITY = (
        'wrong-identity',
        _OURS,
        'correct peer-id here or local-id there; if that is not the router you mean, its address',
    )
    NO_IKE_PROPOSAL = (
        'no-ike-proposal',
        _PEER,
        'compare ike-policy at both ends; strongSwan says this too when no connection of its is '
        'for our address',
    )
    NO_PROFILE = (
        'no-profile',
        _OURS,
        'the peer is another IKE daemon, which can negotiate no TCP-AO keys: use a keychain with '
        'the same keys at both ends',
    )
    NAT = ('nat', _OURS, 'TCP-AO does not pass a NAT: use addresses without translation')
    PEER_REFUSED = ('peer-refused', _PEER, "look at the peer's log")
    MALFORMED = ('malformed', _OURS, "look at the peer's version")
    SELECTORS_CHANGED = (
        'selectors-changed',
        _OURS,
        'something on the way translates addresses, or the peer is faulty',
    )
    IKE_SA_LOST = ('ike-sa-lost', _NONE, _AGAIN)
    CANCELLED = ('cancelled', _NONE, _AGAIN)
    DELETED = ('deleted-by-peer', _NONE, "look at the peer's log")
    STOPPED = ('stopped', _NONE, 'start the daemon again')

    # --- negotiating a key ----------------------------------------------------------------------

    NO_SESSION_AT_PEER = (
        'no-session-at-peer',
        _PEER,
        'compare addresses, families, source-port and peer-port, and that the peer listens',
    )
    NO_KEY_PROPOSAL = (
        'no-key-proposal',
        _PEER,
        'compare algorithm and tcp-options at both ends',
    )
    PEER_FULL = ('peer-full', _PEER, 'look at {show} at the peer')
    PEER_BUSY = ('peer-busy', _PEER, _AGAIN)
    NO_KEY_ID = ('no-key-id', _PEER, 'look at {show}')
    KEY_UNKNOWN_TO_PEER = ('key-unknown-to-peer', _PEER, 'it may have restarted')
    REQUEST = ('request', _OURS, "compare the peer's configuration with ours")
    NO_SUCH_SESSION = (
        'no-such-session',
        _OURS,
        'a neighbor with that address, and {listen_setting} with this one',
    )
    AMBIGUOUS_SESSION = (
        'ambiguous-session',
        _OURS,
        'compare the families, and peer-port here with source-port at the peer',
    )
    NO_COMMON_ALGORITHM = (
        'no-common-algorithm',
        _OURS,
        'an algorithm in common, and the same tcp-options at both ends',
    )
    KEY_IDS_CROSSED = ('key-ids-crossed', _OURS, 'look at {show} at both ends')
    TOO_MANY_SESSIONS = ('too-many-sessions', _OURS, 'configure fewer sessions')
    WRONG_PAIR = ('wrong-pair', _OURS, 'check local-address and connect')
    SERVICE_PORT = ('service-port', _OURS, 'choose another source-port')
    NO_ALGORITHM_HERE = ('no-algorithm-here', _OURS, 'choose another algorithm')
    ALL_IDS_TAKEN = ('all-ids-taken', _OURS, 'wait for old keys to go')

    # --- keys on sockets ------------------------------------------------------------------------

    KEY_REFUSED = (
        'key-refused',
        _OURS,
        "see the kernel's reason; check CONFIG_TCP_AO and net.core.optmem_max",
    )
    NO_RULE = (
        'no-rule',
        _OURS,
        'see which program changes the firewall, or holds its lock',
    )
    NOBODY_LISTENS = (
        'nobody-listens',
        _OURS,
        'check that the daemon listens on this address and port',
    )
    NOT_INSTALLED = ('not-installed', _OURS, _AGAIN)
    UNPROVEN = (
        'unproven',
        _OURS,
        'a peer without TCP-AO, or one that is being replaced: see {show} at both ends',
    )
    PROOF_FAILED = (
        'proof-failed',
        _OURS,
        f'the connection was closed without a BGP octet; {_KEYS}',
    )

    UNSEEN = (
        'unseen',
        _OURS,
        'a firewall rule accepts packets before ours: look at the mangle table, and at {show} '
        'backend',
    )

    # --- segments -------------------------------------------------------------------------------

    UNSIGNED = (
        'unsigned',
        _OURS,
        'a peer that has TCP MD5 or nothing: give it the keys of the keychain',
    )
    UNSIGNED_NEGOTIATED = (
        'unsigned-negotiated',
        _OURS,
        'the peer protects nothing here: a router without TCP-AO or without this session, or '
        'something else at its address',
    )
    UNKNOWN_KEY_ID = (
        'unknown-key-id',
        _OURS,
        'send-id there is recv-id here; compare accept-lifetimes and clocks too',
    )
    OLD_KEY_ID = (
        'old-key-id',
        _OURS,
        'an attempt from before this key: nothing, if the next one comes up',
    )
    BAD_MAC = (
        'bad-mac',
        _OURS,
        'give it the same key-file, algorithm and tcp-options at both ends; gatekeeper verify '
        'tells of a capture what differs',
    )
    BAD_MAC_NEGOTIATED = (
        'bad-mac-negotiated',
        _OURS,
        'something on the way changes the segments (addresses, ports, options), or one end has a '
        'fault: gatekeeper verify tells of a capture what differs',
    )
    NO_SYN = (
        'no-syn',
        _NONE,
        'is TCP open on the way, and does the peer send TCP-AO? See {show} at both ends',
    )

    # --- keychains and rotation -----------------------------------------------------------------

    CHAIN_DENIES = (
        'chain-denies',
        _OURS,
        'give the keychain a key whose send-lifetime is now; look at the clock',
    )
    NO_NEXT_KEY = ('no-next-key', _OURS, 'add a key to the keychain at both ends, and reload')
    NOT_FOLLOWED = (
        'not-followed',
        _OURS,
        'does the peer have the key, and prefer it? The session goes on meanwhile',
    )
    ROLLED_BACK = ('rolled-back', _OURS, 'the session stays on its old key; tried again')
    NO_SUCCESSOR = (
        'no-successor',
        _NONE,
        'IKE has to work when a key is to be replaced; a new connection takes a new key',
    )

    PAUSED = (
        'paused',
        _OURS,
        'what came since may be signed under it; find out what stopped or starved this process',
    )
    REVOKED = ('revoked', _OURS, 'take the revocation back when the session may have keys again')
    DRAINED = ('drained', _OURS, 'undrain it when the session may come up again')

    # --- TCP and BGP, reported by the adapter ---------------------------------------------------

    TCP = ('tcp', _NONE, '')
    BGP = ('bgp', _PEER, '')
    OTHER = ('other', _NONE, '')


BY_CAUSE: dict[Cause, Reason] = {
    Cause.NO_ANSWER: Reason.NO_IKE_ANSWER,
    Cause.AUTHENTICATION_FAILED: Reason.CREDENTIAL,
    Cause.UNKNOWN_IDENTITY: Reason.WRONG_IDENTITY,
    Cause.NO_PROPOSAL_CHOSEN: Reason.NO_KEY_PROPOSAL,
    Cause.NO_PROFILE: Reason.NO_PROFILE,
    Cause.NAT: Reason.NAT,
    Cause.REFUSED: Reason.PEER_REFUSED,
    Cause.MALFORMED: Reason.MALFORMED,
    Cause.SELECTORS_CHANGED: Reason.SELECTORS_CHANGED,
    Cause.PROOF_ENDED: Reason.PROOF_ENDED,
    Cause.IKE_SA_LOST: Reason.IKE_SA_LOST,
    Cause.CANCELLED: Reason.CANCELLED,
    Cause.DELETED: Reason.DELETED,
    Cause.STOPPED: Reason.STOPPED,
}
"""The reason for every cause of the endpoint."""

BY_FAULT: dict[ProofFault, Reason] = {
    ProofFault.PSK: Reason.PSK_DIFFERS,
    ProofFault.PPK: Reason.PPK_DIFFERS,
    ProofFault.CERTIFICATE: Reason.CERTIFICATE_REFUSED,
    ProofFault.METHOD: Reason.METHOD_DIFFERS,
    ProofFault.KEY: Reason.KEY_DIFFERS,
    ProofFault.REFUSED_US: Reason.REFUSED_US,
}

BY_NOTIFY: dict[int, Reason] = {
    NotifyType.TS_UNACCEPTABLE: Reason.NO_SESSION_AT_PEER,
    NotifyType.NO_PROPOSAL_CHOSEN: Reason.NO_KEY_PROPOSAL,
    NotifyType.NO_ADDITIONAL_SAS: Reason.PEER_FULL,
    NotifyType.TEMPORARY_FAILURE: Reason.PEER_BUSY,
    NotifyType.KEYID_IN_USE: Reason.NO_KEY_ID,
    NotifyType.CHILD_SA_NOT_FOUND: Reason.KEY_UNKNOWN_TO_PEER,
}
"""The reason for the peer's answer to a request for a key."""

BY_INSTALLER: dict[installer.Cause, Reason] = {
    installer.Cause.NO_LISTENER: Reason.NOBODY_LISTENS,
    installer.Cause.NO_RULE: Reason.NO_RULE,
}
"""The reasons of errors on sockets; all others are KEY_REFUSED."""

ORDINARY = frozenset(
    {
        Reason.NOBODY_AT_PORT,
        Reason.NO_SESSION_AT_PEER,
        Reason.NO_SUCH_SESSION,
        Reason.NOBODY_LISTENS,
        Reason.UNPROVEN,
        Reason.IKE_SA_LOST,
        Reason.DELETED,
        Reason.CANCELLED,
        Reason.TCP,
        Reason.NO_SYN,
        Reason.OLD_KEY_ID,
    }
)
"""Reasons that occur between healthy peers too: both open and one listens, two attempts collide,
one starts or restarts. They are a failure if they come again and the session is still down."""
