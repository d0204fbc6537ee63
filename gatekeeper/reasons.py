"""Why nothing comes up, in words that say what to try next."""

from __future__ import annotations

from ikev2.constants import NotifyType
from ikev2.events import Cause, RpSaFailed

HINTS: dict[str, str] = {
    Cause.NO_ANSWER: 'check that the peer runs IKE, its address and ike-port, and UDP 500/4500 '
    'through firewalls',
    Cause.AUTHENTICATION_FAILED: 'compare local-id, peer-id and the credential at both ends',
    Cause.UNKNOWN_IDENTITY: 'compare local-id and peer-id at both ends',
    Cause.NO_PROPOSAL_CHOSEN: 'compare algorithm and tcp-options at both ends',
    Cause.NO_PROFILE: 'the peer runs IKEv2 but not the TCP-AO profile: no gatekeeper there?',
    Cause.NAT: 'TCP-AO does not pass a NAT: use addresses without translation',
    Cause.REFUSED: "look at the peer's log",
    Cause.MALFORMED: "look at the peer's version",
    Cause.SELECTORS_CHANGED: 'something on the way translates addresses, or the peer is faulty',
    Cause.IKE_SA_LOST: 'it is tried again',
    Cause.CANCELLED: 'it is tried again',
    Cause.DELETED: "look at the peer's log",
    Cause.STOPPED: 'start the daemon again',
    'installer': "see the kernel's reason; check CONFIG_TCP_AO and net.core.optmem_max",
    'proof': 'the connection was closed without a BGP octet; see show ikev2 at both ends',
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
        'look at show ikev2 at the peer',
    ),
    NotifyType.TEMPORARY_FAILURE: ('the peer is busy or short of memory', 'it is tried again'),
    NotifyType.KEYID_IN_USE: ('no KeyID that both ends can take', 'look at show ikev2'),
    NotifyType.CHILD_SA_NOT_FOUND: ('the peer does not know the key', 'it may have restarted'),
}


def explain(failure: RpSaFailed) -> tuple[str, str]:
    """Cause and hint of a failed request."""
    if failure.notify in _NOTIFY:
        return _NOTIFY[failure.notify]
    text = f'{failure.cause}: {failure.text}' if failure.text else str(failure.cause)
    return text, HINTS[failure.cause]
