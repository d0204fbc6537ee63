"""The report of a probe for each way in which IKE goes well or fails; a probe leaves nothing."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatekeeper.tools.probe.probe import KEYID_TRIES, Phase
from gatekeeper.tools.probe.transcript import Result
from ikev2.authentication.auth import PrivateKey
from ikev2.authentication.identity import Identity
from ikev2.authentication.ppk import Ppk
from ikev2.constants import ExchangeType, KeyExchangeId, NotifyType
from ikev2.endpoint import Endpoint
from ikev2.events import (
    Datagram,
    DeleteAnswered,
    Event,
    IkeMessage,
    IkeSaUp,
    InitialContact,
    KeysDeleted,
    RpSaFailed,
    RpSaRequest,
    RpSaRequested,
)
from ikev2.exchanges import ike_init_initiator
from ikev2.limits import Limits
from ikev2.peer import Peer
from ikev2.proposals.ike import IkePolicy
from ikev2.proposals.policies import POLICIES
from ikev2.wire.message import Message
from ikev2.wire.payloads import NotifyPayload
from keymaterial import Secret
from tests.gatekeeper.prober import (
    OTHER_PSK,
    PSK,
    Against,
    a_probe,
    a_request,
    exchange_of,
    far,
    near,
    psk,
)
from tests.ikev2.pki import root

INIT, AUTH = ExchangeType.IKE_SA_INIT, ExchangeType.IKE_AUTH


def obliging(endpoint: Endpoint, event: Event, now: float) -> None:
    """A peer that agrees to every key and every DELETE."""
    if isinstance(event, RpSaRequested):
        suite, options = event.offer.proposals[0]
        assert endpoint.prepare(event.token, suite, options, 99, 1800, now)
        endpoint.answer(event.token, now)
    elif isinstance(event, KeysDeleted):
        endpoint.answer_delete(event.token, (99,), now)


def against(
    peer: Peer | None,
    ours: Peer | None = None,
    request: RpSaRequest | None = None,
    *,
    policy: str = 'default',
    seed: int = 1,
    **named: Any,
) -> Against:
    """A probe, not yet begun."""
    source = random.Random(seed).randbytes
    probe = a_probe(ours or near(), request, random=source, policy=policy)
    return Against(probe, peer, random=source, **named)


def run(*arguments: Any, **named: Any) -> Against:
    """A probe, from its beginning to its end."""
    done = against(*arguments, **named)
    done.run()
    return done


def lines(done: Against, result: Result) -> list[str]:
    return [f'{step.exchange}: {step.text}' for step in done.steps if step.result is result]


# --- all is well -----------------------------------------------------------------------------


def test_probe_tells_offer_choice_and_proof_in_order() -> None:
    done = run(far())
    assert [(step.exchange, str(step.result)) for step in done.steps] == [
        ('probe', 'info'),
        ('IKE_SA_INIT', 'sent'),
        ('IKE_SA_INIT', 'received'),
        ('IKE_AUTH', 'sent'),
        ('IKE_AUTH', 'received'),
        ('IKE_AUTH', 'ok'),
        ('INFORMATIONAL', 'sent'),
        ('INFORMATIONAL', 'ok'),
    ]
    offered, chosen, claim, answer, proven = (step.text for step in done.steps[1:6])
    assert 'aes-256-gcm-16 or chacha20-poly1305' in offered
    assert 'curve25519 or ecp-256 or modp-2048' in offered
    assert 'chosen: encryption aes-256-gcm-16, prf hmac-sha2-256' in chosen
    assert 'Vendor ID this profile' in chosen
    assert claim == (
        'we are fqdn r1.lab, proven by a pre-shared key; the peer has to be fqdn r2.lab'
    )
    assert answer == 'the peer says that it is fqdn r2.lab, with a pre-shared key'
    assert proven == 'proven: the peer is fqdn r2.lab'
    details = done.steps[5].details
    assert (details['peer_id'], details['profile'], details['nat']) == ('fqdn r2.lab', True, False)
    assert details['suite'] == 'aes-256-gcm-16/hmac-sha2-256/curve25519'
    assert done.probe.proven
    assert done.probe.done


def test_probe_asks_for_a_key_and_deletes_it_and_the_ike_sa() -> None:
    done = run(far(), request=a_request(), answer=obliging)
    assert done.probe.proven
    asked = next(s for s in done.steps if s.exchange == 'CREATE_CHILD_SA')
    assert '10.0.0.1:47000 -> 10.0.0.2:179: hmac-sha-1-96, tcp-options included' in asked.text
    (deleted,) = [event for event in done.events if isinstance(event, KeysDeleted)]
    (wanted,) = [event for event in done.events if isinstance(event, RpSaRequested)]
    assert deleted.recv_ids == (wanted.offer.keyid,)
    assert lines(done, Result.OK)[1:] == [
        'CREATE_CHILD_SA: a TCP-AO key was agreed on: hmac-sha-1-96, tcp-options included, the '
        'peer keeps it for 1800 s; nothing is installed here',
        'INFORMATIONAL: the key is deleted again at the peer',
        'INFORMATIONAL: the IKE SA is deleted',
    ]
    assert done.endpoint.snapshot().peers[0].ike_sas == ()


def test_probe_tells_certificates_and_their_names() -> None:
    ca = root()
    r1 = ca.leaf('r1', x509.DNSName('r1.lab')).credential()
    r2 = ca.leaf('r2', x509.DNSName('r2.lab')).credential()
    done = run(
        far(credential=r2, remote_credential=ca.trust()),
        near(credential=r1, remote_credential=ca.trust()),
    )
    assert done.probe.proven, done.text()
    (answer,) = [text for text in lines(done, Result.RECEIVED) if text.startswith('IKE_AUTH')]
    assert 'a signature (ecdsa-sha256, RFC 7427)' in answer
    assert 'certificate of CN=r2' in answer


def test_probe_answers_a_cookie_and_another_group_and_tells_it() -> None:
    peer = far(policy=IkePolicy(groups=(KeyExchangeId.ECP_256,)))
    done = run(peer, limits=Limits(half_open_before_cookies=0))
    assert done.probe.proven
    received = lines(done, Result.RECEIVED)
    assert received[0] == 'IKE_SA_INIT: the peer wants a cookie first: it is busy, or under attack'
    assert received[1] == 'IKE_SA_INIT: the peer wants key exchange by ecp-256 instead'
    assert any('with the cookie' in text for text in lines(done, Result.SENT))


def test_probe_tells_additional_key_exchanges_and_a_ppk() -> None:
    ppk = Ppk('lab', Secret(bytes(range(32))), True)
    hybrid = POLICIES['hybrid']
    done = run(far(policy=hybrid, ppk=ppk), near(policy=hybrid, ppk=ppk))
    assert done.probe.proven, done.text()
    assert 'IKE_INTERMEDIATE: key exchange by ml-kem-768' in lines(done, Result.SENT)


# --- what fails ------------------------------------------------------------------------------

CA, OTHER_CA = root('CN=ca'), root('CN=other')
R1_KEY, R2_KEY = (PrivateKey(Ed25519PrivateKey.generate()) for _ in range(2))
R1_CERTIFIED = CA.leaf('r1', x509.DNSName('r1.lab')).credential()
STRANGER = Identity.parse('fqdn', 'stranger.lab')
A_PPK = Ppk('lab', Secret(bytes(range(32))), True)

FAILURES: dict[str, tuple[Peer | None, Peer, str, str, str]] = {
    'nobody answers': (
        None,
        near(),
        'IKE_SA_INIT',
        'no IKE answer: no answer to 5 requests',
        'look whether IKE runs at 10.0.0.2 on UDP port 500',
    ),
    'no proposal': (
        far(policy=POLICIES['high']),
        near(),
        'IKE_SA_INIT',
        'no acceptable proposal: the peer answered NO_PROPOSAL_CHOSEN',
        'compare ike-policy at both ends (here: default',
    ),
    'no PPK there': (
        far(),
        near(ppk=A_PPK),
        'IKE_SA_INIT',
        'refused by the peer',
        'give the peer the same PPK',
    ),
    'our identity': (
        far(remote_id=STRANGER),
        near(),
        'IKE_AUTH',
        'authentication failed: the peer refused our identity or our proof of it',
        'compare our fqdn r1.lab with its peer-id',
    ),
    'its identity': (
        far(local_id=STRANGER),
        near(),
        'IKE_AUTH',
        'the peer says that it is fqdn stranger.lab, not fqdn r2.lab',
        'give that as --peer-id',
    ),
    'PSKs differ': (
        far(credential=psk(OTHER_PSK), remote_credential=psk(OTHER_PSK)),
        near(),
        'IKE_AUTH',
        'authentication failed: the peer refused our identity or our proof of it',
        'our credential with the one that it has for us',
    ),
    'its PSK differs': (
        far(credential=psk(OTHER_PSK)),
        near(),
        'IKE_AUTH',
        'authentication failed: the pre-shared keys differ',
        'the same pre-shared key in both files',
    ),
    'another method': (
        far(credential=R2_KEY, remote_credential=R1_KEY.public_key),
        near(credential=R1_KEY, remote_credential=psk()),
        'IKE_AUTH',
        'authentication failed: the peer authenticates by method 14, a pre-shared key is conf',
        'compare the credential that we have for fqdn r2.lab',
    ),
    'another key': (
        far(credential=R2_KEY, remote_credential=R1_KEY.public_key),
        near(credential=R1_KEY, remote_credential=R1_KEY.public_key.fingerprint),
        'IKE_AUTH',
        "authentication failed: the peer's public key has another fingerprint",
        'the fingerprint of its key (gatekeeper fingerprint)',
    ),
    'a CA that we do not trust': (
        far(
            credential=OTHER_CA.leaf('r2', x509.DNSName('r2.lab')).credential(),
            remote_credential=CA.trust(),
        ),
        near(credential=R1_CERTIFIED, remote_credential=CA.trust()),
        'IKE_AUTH',
        "authentication failed: the peer's certificate:",
        'the CA of its certificate',
    ),
    'a certificate for another name': (
        far(
            credential=CA.leaf('r2', x509.DNSName('r3.lab')).credential(),
            remote_credential=CA.trust(),
        ),
        near(credential=R1_CERTIFIED, remote_credential=CA.trust()),
        'IKE_AUTH',
        'not for fqdn r2.lab',
        'the CA of its certificate',
    ),
}


@pytest.mark.parametrize('name', FAILURES)
def test_failure_tells_where_and_why_and_what_to_try(name: str) -> None:
    peer, ours, exchange, text, try_next = FAILURES[name]
    done = run(peer, ours)
    assert not done.probe.proven
    assert done.failure.exchange == exchange
    assert text in done.failure.text
    assert try_next in done.failure.advice


def test_probe_names_a_group_that_is_not_ours() -> None:
    ours = near(policy=IkePolicy(groups=(KeyExchangeId.CURVE25519,)))

    def insist(datagram: Datagram) -> Datagram | None:
        """INVALID_KE_PAYLOAD for ECP-384, whatever was asked (it is in no offer of ours)."""
        if datagram.local_port != 500:
            return datagram
        message = Message.decode(datagram.data)
        notify = NotifyPayload(NotifyType.INVALID_KE_PAYLOAD, b'\x00\x14')
        header = replace(message.header, responder_spi=bytes(8))
        return replace(datagram, data=Message(header, (notify,)).encode())

    done = run(far(), ours, deliver=insist, policy='narrow')
    assert 'the peer wants key exchange by ecp-384, which is not offered' in done.failure.text
    assert '(here: narrow' in done.failure.advice


def without(*payloads: type | int) -> Callable[[Datagram], Datagram]:
    """The peer's IKE_SA_INIT lacks these payloads, or notifies: AUTH doesn't fit any more."""

    def deliver(datagram: Datagram) -> Datagram:
        if datagram.local_port != 500 or exchange_of(datagram) != INIT:
            return datagram
        message = Message.decode(datagram.data)
        left = tuple(
            payload
            for payload in message.payloads
            if type(payload) not in payloads
            and getattr(payload, 'notify_type', None) not in payloads
        )
        return replace(datagram, data=Message(message.header, left).encode())

    return deliver


def test_probe_explains_a_peer_that_needs_a_child_in_ike_auth() -> None:
    done = run(far(), deliver=without(NotifyType.CHILDLESS_IKEV2_SUPPORTED))
    assert 'does not support childless IKE_AUTH' in done.failure.text
    assert 'childless = allow' in done.failure.advice


def test_unanswered_ike_auth_is_told_from_a_silent_peer() -> None:
    done = run(far(), deliver=lambda one: None if exchange_of(one) == AUTH else one)
    assert done.failure.exchange == 'IKE_AUTH'
    assert 'IKE_SA_INIT was answered' in done.failure.advice


def test_icmp_error_is_told_at_once_and_explains_the_silence() -> None:
    done = against(None)
    done.probe.start(done.now)
    done.probe.unreachable('port unreachable')
    done.collect()
    assert done.steps[-1].result is Result.WARNING
    done.go_on()
    assert 'ICMP says: port unreachable' in done.failure.text
    assert 'start the daemon at 10.0.0.2' in done.failure.advice


def test_failed_sending_explains_the_silence() -> None:
    done = against(None)
    done.probe.start(done.now)
    done.probe.unsendable('Network is unreachable')
    done.go_on()
    assert 'could not send: Network is unreachable' in done.failure.text
    assert 'look at the route' in done.failure.advice


def test_unauthentic_answers_are_counted() -> None:
    def garble(datagram: Datagram) -> Datagram:
        if datagram.local_port != 500 or exchange_of(datagram) != AUTH:
            return datagram
        return replace(datagram, data=datagram.data[:-1] + bytes([datagram.data[-1] ^ 1]))

    done = run(far(), deliver=garble)
    assert 'were no authentic answer' in done.failure.text


# --- keys that are refused -------------------------------------------------------------------


def refusing(notify: NotifyType, data: bytes = b'') -> Callable[[Endpoint, Event, float], None]:
    def answer(endpoint: Endpoint, event: Event, now: float) -> None:
        if isinstance(event, RpSaRequested):
            endpoint.refuse(event.token, notify, data, now)

    return answer


@pytest.mark.parametrize(
    ('notify', 'text', 'try_next'),
    [
        (NotifyType.TS_UNACCEPTABLE, 'TS_UNACCEPTABLE', "the peer's neighbor for 10.0.0.1"),
        (NotifyType.NO_PROPOSAL_CHOSEN, 'no acceptable proposal', 'compare algorithm and tcp-opt'),
        (NotifyType.TEMPORARY_FAILURE, 'TEMPORARY_FAILURE', 'try again'),
        (NotifyType.NO_ADDITIONAL_SAS, 'NO_ADDITIONAL_SAS', 'too many keys'),
    ],
)
def test_refused_key_tells_why_and_what_to_try(
    notify: NotifyType, text: str, try_next: str
) -> None:
    done = run(far(), request=a_request(), answer=refusing(notify))
    assert done.failure.exchange == 'CREATE_CHILD_SA'
    assert text in done.failure.text
    assert try_next in done.failure.advice
    assert done.failure.details['notify'] == notify.name
    assert 'INFORMATIONAL: the IKE SA is deleted' in lines(done, Result.OK)
    assert not any(isinstance(event, KeysDeleted) for event in done.events)


def test_probe_tries_another_keyid_when_the_peer_uses_ours() -> None:
    asked: list[int] = []

    def answer(endpoint: Endpoint, event: Event, now: float) -> None:
        if isinstance(event, RpSaRequested) and not asked:
            asked.append(event.offer.keyid)
            data = bytes(keyid for keyid in range(1, 256) if keyid != 77)
            endpoint.refuse(event.token, NotifyType.KEYID_IN_USE, data, now)
        else:
            if isinstance(event, RpSaRequested):
                asked.append(event.offer.keyid)
            obliging(endpoint, event, now)

    done = run(far(), request=a_request(), answer=answer)
    assert done.probe.proven
    assert asked[1] == 77
    (deleted,) = [event for event in done.events if isinstance(event, KeysDeleted)]
    assert deleted.recv_ids == (77,)  # never the one that is another's


def test_probe_gives_up_on_keyids_after_a_few() -> None:
    answer = refusing(NotifyType.KEYID_IN_USE, b'\x01')
    done = run(far(), request=a_request(), answer=answer)
    assert sum(isinstance(event, RpSaRequested) for event in done.events) == KEYID_TRIES
    assert 'none of the KeyIDs' in done.failure.advice


def test_probe_asks_no_key_when_the_peer_lacks_the_profile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ike_init_initiator, 'speaks_profile', lambda message: False)
    done = run(far(), request=a_request())
    assert any('no Vendor ID of this profile' in text for text in lines(done, Result.WARNING))
    assert "peer doesn't speak this profile" in done.failure.text
    assert 'keychain' in done.failure.advice
    assert not any(isinstance(event, RpSaRequested) for event in done.events)


def test_probe_asks_no_key_when_there_is_a_nat() -> None:
    def translate(datagram: Datagram) -> Datagram:
        """The probe's ports are others outside."""
        if datagram.local_port > 50000:
            return replace(datagram, local_port=datagram.local_port + 1000)
        if datagram.remote_port > 51000:
            return replace(datagram, remote_port=datagram.remote_port - 1000)
        return datagram

    done = run(far(), request=a_request(), deliver=translate)
    assert any('there is a NAT on the path' in text for text in lines(done, Result.WARNING))
    assert 'a NAT was found' in done.failure.text
    assert 'TCP-AO covers the addresses' in done.failure.advice


def test_probe_fails_when_the_peer_ends_the_ike_sa_meanwhile() -> None:
    def answer(endpoint: Endpoint, event: Event, now: float) -> None:
        if isinstance(event, RpSaRequested):
            endpoint.remove_peer('probed by', now)

    done = run(far(), request=a_request(), answer=answer)
    assert not done.probe.proven
    assert 'deleted by the peer' in done.failure.text
    assert 'INFORMATIONAL: Delete for the IKE SA' not in lines(done, Result.SENT)


# --- nothing is left, nothing is disturbed -----------------------------------------------------


def test_initial_contact_is_never_sent() -> None:
    """INITIAL_CONTACT would end everything that a router with our identity has with the peer."""
    done = run(far(), request=a_request(), answer=obliging)
    assert not any(isinstance(event, InitialContact) for event in done.events)
    (auth,) = [
        event
        for event in done.events
        if isinstance(event, IkeMessage) and event.exchange == 'IKE_AUTH' and not event.sent
    ]
    assert 'INITIAL_CONTACT' not in auth.detail


def test_interrupted_probe_leaves_no_ike_sa() -> None:
    done = against(far(), request=a_request())  # a peer that never answers about the key
    done.run(lambda: any(isinstance(event, RpSaRequested) for event in done.events))
    done.probe.stop(done.now)
    done.go_on()
    assert not done.probe.proven
    assert done.probe.phase is Phase.DONE
    assert 'interrupted while asking for a key' in done.failure.text


def test_interrupted_probe_deletes_a_key_that_comes_late() -> None:
    waiting: list[RpSaRequested] = []

    def late(endpoint: Endpoint, event: Event, now: float) -> None:
        if isinstance(event, RpSaRequested):
            waiting.append(event)
        else:
            obliging(endpoint, event, now)

    done = against(far(), request=a_request(), answer=late)
    done.run(lambda: bool(waiting))
    done.probe.stop(done.now)
    obliging(done.endpoint, waiting[0], done.now)
    done.go_on()
    (deleted,) = [event for event in done.events if isinstance(event, KeysDeleted)]
    assert deleted.recv_ids == (waiting[0].offer.keyid,)
    assert done.endpoint.snapshot().peers[0].ike_sas == ()


def test_unanswered_delete_is_told() -> None:
    def deaf(endpoint: Endpoint, event: Event, now: float) -> None:
        if isinstance(event, RpSaRequested):
            obliging(endpoint, event, now)

    done = run(far(), request=a_request(), answer=deaf)
    assert not done.probe.proven
    assert 'the peer did not answer the DELETE' in done.failure.text
    assert '180 s' in done.failure.advice


def test_requests_for_the_router_are_put_off_or_left_open() -> None:
    """The peer takes the probe's IKE SA for the router's."""

    def ask(endpoint: Endpoint, event: Event, now: float) -> None:
        if isinstance(event, IkeSaUp):
            theirs = replace(a_request(), tsi=a_request().tsr, tsr=a_request().tsi)
            endpoint.request('probed by', theirs, now)
            endpoint.delete('probed by', [7], now)
        obliging(endpoint, event, now)

    done = run(far(), request=a_request(), answer=ask)
    assert done.probe.proven, done.text()
    (failed,) = [event for event in done.events if isinstance(event, RpSaFailed)]
    assert failed.notify == NotifyType.TEMPORARY_FAILURE
    # Still to be sent, over the IKE SA with the router: it was not answered in its name.
    assert not any(isinstance(e, DeleteAnswered) and e.answered for e in done.events)


def test_probe_tells_no_secret() -> None:
    done = run(far(), request=a_request(), answer=obliging)
    said = json.dumps([[s.text, s.advice, {**s.details}] for s in done.steps])
    assert PSK.decode() not in said
    (auth,) = [
        payload
        for event in done.events
        if isinstance(event, IkeMessage) and event.exchange == 'IKE_AUTH' and event.sent
        for payload in event.payloads
        if type(payload).__name__ == 'AuthPayload'
    ]
    assert auth.data.hex() not in said  # type: ignore[attr-defined]


def test_probe_ends_at_once_when_interrupted_at_the_start() -> None:
    done = against(None)
    done.probe.start(done.now)
    done.probe.stop(done.now)
    done.collect()
    assert done.probe.done
    assert 'interrupted while making an IKE SA' in done.failure.text
    done.probe.stop(done.now)
    done.collect()
    assert done.failure


def test_unanswered_delete_of_the_ike_sa_is_a_warning() -> None:
    """All was proven, and the peer finds out by itself."""

    def deaf(datagram: Datagram) -> Datagram | None:
        return None if exchange_of(datagram) == ExchangeType.INFORMATIONAL else datagram

    done = run(far(), deliver=deaf)
    assert done.probe.proven
    assert any('did not answer the Delete' in text for text in lines(done, Result.WARNING))


def test_probe_explains_that_the_peer_cannot_verify_our_key() -> None:
    done = run(
        far(credential=R2_KEY, remote_credential=R1_KEY.public_key),
        near(credential=R1_KEY, remote_credential=R2_KEY.public_key),
        deliver=without(NotifyType.SIGNATURE_HASH_ALGORITHMS),
    )
    assert not any(step.exchange == 'IKE_AUTH' for step in done.steps[:-1])
    assert 'take a key of another kind' in done.failure.advice
