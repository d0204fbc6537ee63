"""Advice after a failed probe: a table of causes for operators.

Texts only. `Circumstances` fills in the words in braces.
"""

from __future__ import annotations

from dataclasses import dataclass

from ikev2.constants import NotifyType
from ikev2.events import Cause

INIT, AUTH, CHILD = 'IKE_SA_INIT', 'IKE_AUTH', 'CREATE_CHILD_SA'


@dataclass(frozen=True, slots=True)
class Circumstances:
    """The values for the words in braces."""

    local: str
    """Our address."""
    remote: str
    port: int
    natt_port: int
    local_id: str
    remote_id: str
    policy: str
    """The name of the policy that we offer."""


ADVICE: dict[tuple[str, Cause | NotifyType | str], str] = {
    (INIT, Cause.NO_ANSWER): (
        'look whether IKE runs at {remote} on UDP port {port}, whether it has a peer with the '
        'address {local} (it may not answer unknown addresses), and whether a firewall drops UDP '
        'ports {port} and {natt_port} in either direction'
    ),
    (INIT, 'unreachable'): (
        'start the daemon at {remote}, or give the --ike-port that it listens on; a firewall that '
        'rejects UDP port {port} says the same'
    ),
    (INIT, 'unsendable'): 'look at the route to {remote}, and at the local firewall',
    (INIT, Cause.NO_PROPOSAL_CHOSEN): (
        'compare ike-policy at both ends (here: {policy}; compatible offers most); some daemons '
        'say this too when no connection of theirs is for {local}'
    ),
    (INIT, NotifyType.INVALID_KE_PAYLOAD): (
        'take an --ike-policy that has this key exchange method (here: {policy}; compatible has '
        'most), or allow one of ours at the peer'
    ),
    (INIT, NotifyType.CHILDLESS_IKEV2_SUPPORTED): (
        'let the peer allow it (strongSwan: childless = allow); without it nothing of this '
        'project can work with that peer'
    ),
    (INIT, NotifyType.USE_PPK): (
        'give the peer the same PPK, or say --ppk-required false while it has none'
    ),
    (INIT, NotifyType.AUTHENTICATION_FAILED): "look in the peer's log, which says more",
    (INIT, Cause.REFUSED): "look in the peer's log, which says more",
    (AUTH, Cause.NO_ANSWER): (
        'IKE_SA_INIT was answered, so address and port are right: large datagrams, fragments or '
        'UDP port {natt_port} may be filtered on the way; or the peer refuses in silence, then '
        'its log says why'
    ),
    (AUTH, NotifyType.AUTHENTICATION_FAILED): (
        'compare our {local_id} with its peer-id, our {remote_id} with its local-id, and our '
        "credential with the one that it has for us; why is in the peer's log only"
    ),
    (AUTH, Cause.AUTHENTICATION_FAILED): (
        'compare the credential that we have for {remote_id} with the one that it uses: the same '
        'pre-shared key in both files, the fingerprint of its key (gatekeeper fingerprint), the '
        'CA of its certificate'
    ),
    (AUTH, 'unverifiable'): (
        'take a key of another kind at this end, or let the peer accept this one'
    ),
    (AUTH, Cause.UNKNOWN_IDENTITY): (
        'give that as --peer-id (peer-id in the configuration) if it is the router that you mean; '
        'otherwise another one answers at {remote}'
    ),
    (AUTH, Cause.REFUSED): "look in the peer's log, which says more",
    (CHILD, Cause.NO_ANSWER): (
        'the peer did not answer although IKE is up: look in its log; what it may have installed '
        'leaves its listener after 180 s'
    ),
    (CHILD, Cause.NO_PROFILE): (
        'the peer is another IKE daemon, or speaks another profile: it cannot negotiate TCP-AO '
        'keys; a keychain with the same keys at both ends can be used instead'
    ),
    (CHILD, Cause.NAT): (
        'TCP-AO covers the addresses, so no protected session passes a NAT: probe from the '
        'address that the peer sees, or take the NAT out of the path'
    ),
    (CHILD, Cause.NO_PROPOSAL_CHOSEN): (
        'compare algorithm and tcp-options (and ike-policy, for the key exchange) with those of '
        "the peer's session"
    ),
    (CHILD, NotifyType.TS_UNACCEPTABLE): (
        "look at the peer's neighbor for {local}: it must have a session of the same families "
        'that listens on this service port, and if it has a peer-port, that must be our '
        '--source-port'
    ),
    (CHILD, NotifyType.TEMPORARY_FAILURE): 'the peer is busy with something else: try again',
    (CHILD, NotifyType.NO_ADDITIONAL_SAS): (
        'the peer has too many keys with us: look at its show output, and try again later'
    ),
    (CHILD, NotifyType.KEYID_IN_USE): 'the peer takes none of the KeyIDs that we tried: try again',
    (CHILD, Cause.DELETED): 'the peer ended the IKE SA: look in its log',
}
OTHERWISE = "look in the peer's log"


def advice(step: str, causes: tuple[Cause | NotifyType | str, ...], known: Circumstances) -> str:
    """Return what to try next: for the first of these causes that has an advice."""
    for cause in causes:
        text = ADVICE.get((step, cause))
        if text is not None:
            return text.format(
                local=known.local,
                remote=known.remote,
                port=known.port,
                natt_port=known.natt_port,
                local_id=known.local_id,
                remote_id=known.remote_id,
                policy=known.policy,
            )
    return OTHERWISE
