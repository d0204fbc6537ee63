"""Why nothing comes up, in words that say what to try next."""

from __future__ import annotations

from dataclasses import dataclass

from ikev2.constants import NotifyType
from ikev2.events import Cause, IkeSaFailed, RpSaFailed


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why there is no protected connection."""

    step: str
    cause: str
    hint: str
    """What to try next."""

    def __str__(self) -> str:
        return f'{self.step}: {self.cause}'


HINTS: dict[str, str] = {
    Cause.NO_ANSWER: 'check that the peer runs IKE, its address and ike-port, that it has us as a '
    'neighbor, and UDP 500/4500 through firewalls; gatekeeper probe tries it step by step',
    Cause.AUTHENTICATION_FAILED: 'compare local-id, peer-id and the credential at both ends',
    Cause.UNKNOWN_IDENTITY: 'compare local-id and peer-id at both ends',
    Cause.NO_PROPOSAL_CHOSEN: 'compare algorithm and tcp-options at both ends',
    Cause.NO_PROFILE: 'the peer is another IKE daemon, which can negotiate no TCP-AO keys: use a '
    'keychain with the same keys at both ends',
    Cause.NAT: 'TCP-AO does not pass a NAT: use addresses without translation',
    Cause.REFUSED: "look at the peer's log",
    Cause.MALFORMED: "look at the peer's version",
    Cause.SELECTORS_CHANGED: 'something on the way translates addresses, or the peer is faulty',
    Cause.PROOF_ENDED: "renew the peer's certificate, or correct trust-anchor, crl or the clock "
    'here, as it says',
    Cause.IKE_SA_LOST: 'it is tried again',
    Cause.CANCELLED: 'it is tried again',
    Cause.DELETED: "look at the peer's log",
    Cause.STOPPED: 'start the daemon again',
    'request': "compare the peer's configuration with ours",
    'chain': 'give the keychain a key whose send-lifetime is now; look at the clock',
    'unsigned': 'a peer that has TCP MD5 or nothing: give it the keys of the keychain',
    'ids': 'send-id there is recv-id here; compare accept-lifetimes and clocks too',
    'mac': 'give it the same key-file, algorithm and tcp-options at both ends; gatekeeper verify '
    'tells of a capture what differs',
    'no successor': 'the errors before this one say why; a new connection takes a new key',
    'credential': 'the new credential at both ends within that time; the session comes up again '
    'under it',
    'next key': 'add a key to the keychain at both ends, and reload',
    'installer': "see the kernel's reason; check CONFIG_TCP_AO and net.core.optmem_max",
    'unproven': 'a peer without TCP-AO, or one that is being replaced: see {show} at both ends',
    'proof': 'the connection was closed without a BGP octet; see {show} at both ends',
}

_NOTIFY: dict[int, tuple[str, str]] = {
    NotifyType.TS_UNACCEPTABLE: (
        'no such session at the peer',
        'compare addresses, families, source-port and peer-port, and that the peer listens',
    ),
    NotifyType.NO_PROPOSAL_CHOSEN: (
        str(Cause.NO_PROPOSAL_CHOSEN),
        HINTS[Cause.NO_PROPOSAL_CHOSEN],
    ),
    NotifyType.NO_ADDITIONAL_SAS: (
        'the peer has no room for another session',
        'look at {show} at the peer',
    ),
    NotifyType.TEMPORARY_FAILURE: ('the peer is busy or short of memory', 'it is tried again'),
    NotifyType.KEYID_IN_USE: ('no KeyID that both ends can take', 'look at {show}'),
    NotifyType.CHILD_SA_NOT_FOUND: ('the peer does not know the key', 'it may have restarted'),
}


REFUSED_US = 'the peer refused our identity or our proof of it'

_AT_IKE: tuple[tuple[Cause | None, str, str], ...] = (
    (None, 'PPK', 'the same ppk-file and ppk-id at both ends, or ppk-required false'),
    (
        Cause.AUTHENTICATION_FAILED,
        REFUSED_US,
        "why is in the peer's log: compare local-id, peer-id and the credential at both ends",
    ),
    (
        Cause.AUTHENTICATION_FAILED,
        'pre-shared keys',
        'put the same psk-file on both routers (and the same ppk-file, if there is one)',
    ),
    (
        Cause.AUTHENTICATION_FAILED,
        'certificate',
        "renew the peer's certificate, or correct trust-anchor, crl or peer-id here, as it says",
    ),
    (
        Cause.AUTHENTICATION_FAILED,
        'authenticates by method',
        'the same kind of credential at both ends: a pre-shared key, or signature keys',
    ),
    (
        Cause.AUTHENTICATION_FAILED,
        '',
        "compare peer-key or peer-fingerprint here with the peer's key: gatekeeper fingerprint",
    ),
    (
        Cause.UNKNOWN_IDENTITY,
        '',
        'correct peer-id here or local-id there; if that is not the router you mean, its address',
    ),
    (
        Cause.NO_PROPOSAL_CHOSEN,
        '',
        'compare ike-policy at both ends; strongSwan says this too when no connection of its is '
        'for our address',
    ),
)
"""Of an IKE SA that could not be made: cause, a part of the text, what to try next."""


def at_ike(failure: IkeSaFailed) -> Explanation:
    """Why there is no IKE SA."""
    text = f'{failure.cause}: {failure.text}' if failure.text else str(failure.cause)
    hints = (
        hint
        for cause, part, hint in _AT_IKE
        if cause in (None, failure.cause) and part in failure.text
    )
    return Explanation(failure.step, text, next(hints, HINTS[failure.cause]))


def explain(step: str, failure: RpSaFailed, ike: Explanation | None) -> Explanation:
    """Why a request failed; `ike` is why there is no IKE SA, None if there is one."""
    if failure.notify in _NOTIFY:
        return Explanation(step, *_NOTIFY[failure.notify])
    if ike is not None:
        # The request never left.
        return ike
    if failure.cause is Cause.AUTHENTICATION_FAILED:
        # The IKE SA was up for us, until the peer had looked at our proof.
        return at_ike(IkeSaFailed(failure.peer, 'IKE_AUTH', failure.cause, REFUSED_US))
    known = failure.text in ('', str(failure.cause))
    text = str(failure.cause) if known else f'{failure.cause}: {failure.text}'
    return Explanation(step, text, HINTS[failure.cause])
