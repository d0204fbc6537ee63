"""The claims of the demo, judged by the evidence alone: one function for each claim.

A check raises AssertionError with the reason, or returns the text for the summary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

from gatekeeper.reporting.events import EventName, OperatorEvent
from ikev2.constants import ExchangeType
from lab.demo import oracle
from lab.demo.evidence import Evidence, IkePacket, ike, tcp
from lab.demo.places import (
    ALGORITHMS,
    BGP,
    IMPOSTOR,
    IMPOSTOR_PORTS,
    KEYS,
    PORTS,
    R1,
    R2,
    ROUTERS,
)
from tcpao.verification.connection import Connection
from tcpao.verification.segment import Segment

Check = Callable[[Evidence], str]

ATTACKS = 7
# Samples are due every 100 ms. On a busy machine one may come later; a loss between samples would
# show in the up-time.
LONGEST_GAP = 2.0
SHORTEST_SECRET = 16


def require(truth: object, otherwise: str) -> None:
    """Raise AssertionError unless `truth` holds, even under `python -O`."""
    if not truth:
        raise AssertionError(otherwise)


# --- the wire -----------------------------------------------------------------------------------


def begins_before_ike(evidence: Evidence) -> str:
    """Check that the capture holds the first IKE packet."""
    messages = list(ike(evidence.wire))
    require(messages, 'no IKE in the capture')
    require(messages[0].begins, 'the first IKE message is not a request of IKE_SA_INIT')
    started = _number(_closing(evidence), 'captured_from')
    first = evidence.named(EventName.IKE_INIT)[0]
    require(started < first.time, 'a router spoke IKE before the capture began')
    return f'captured from {first.time - started:.1f} s before the first IKE_SA_INIT'


def ike_before_syn(evidence: Evidence) -> str:
    """Check for IKE_SA_INIT, IKE_AUTH, and a CREATE_CHILD_SA for each session before its SYN."""
    first: dict[tuple[int, int], float] = {}
    for packet in tcp(evidence.wire):
        if packet.segment.is_opening:
            # A repeated SYN, if the answer took more than a second.
            syn_of = packet.segment.source_port, packet.segment.sequence
            first.setdefault(syn_of, packet.time)
    syns = sorted(first.values())
    require(len(syns) == len(PORTS), f'{len(syns)} SYNs for {len(PORTS)} sessions')
    for count, syn in enumerate(syns, 1):
        before = [message for message in ike(evidence.wire) if message.time < syn]
        for exchange in (ExchangeType.IKE_SA_INIT, ExchangeType.IKE_AUTH):
            require(_completed(before, exchange), f'SYN {count} before {exchange.name}')
        done = len(_completed(before, ExchangeType.CREATE_CHILD_SA))
        require(done >= count, f'SYN {count} after {done} CREATE_CHILD_SA')
    for session in PORTS:
        syn = _captured_syn(evidence, session).time
        made = [e for e in evidence.named(EventName.CHILD_SA, 'r1') if e.session == session]
        require(made and made[0].time < syn, f'{session}: SYN before its CREATE_CHILD_SA')
    return 'IKE_SA_INIT, IKE_AUTH and a CREATE_CHILD_SA for each session before its SYN'


def _completed(messages: list[IkePacket], exchange: ExchangeType) -> set[tuple[bytes, bool, int]]:
    """Return the exchanges with both request and response among the messages."""
    seen: dict[bool, set[tuple[bytes, bool, int]]] = {False: set(), True: set()}
    for message in messages:
        if message.is_a(exchange):
            header = message.header
            # The initiator of the exchange, which need not be the initiator of the IKE SA.
            begun = header.initiator != header.response
            seen[header.response].add((header.initiator_spi, begun, header.message_id))
    return seen[False] & seen[True]


def every_segment_is_signed(evidence: Evidence) -> str:
    """Check that every TCP segment has option 29, the SYNs included."""
    segments = [packet.segment for packet in tcp(evidence.wire)]
    bare = sum(segment.ao_option() is None for segment in segments)
    require(segments, 'no TCP in the capture')
    require(not bare, f'{bare} of {len(segments)} TCP segments have no option 29')
    return f'all {len(segments)} TCP segments carry option 29'


def macs_verify(evidence: Evidence) -> str:
    """Check every MAC with our own code."""
    report, total = evidence.report, len(tcp(evidence.wire))
    counts = f'{report.bad} bad, {report.unsigned} unsigned, {report.unverifiable} unverifiable'
    require(report.passed(require_all=True) and report.good == total, counts)
    return f'all {report.good} MACs verify with our own code'


def macs_verify_with_scapy(evidence: Evidence) -> str:
    """Check every MAC with scapy."""
    total, good = len(tcp(evidence.wire)), oracle.agreed(evidence.report.verdicts())
    require(good == total, f'scapy finds {good} of {total} MACs right')
    return f'all {good} MACs verify with scapy'


def each_session_has_its_own_key(evidence: Evidence) -> str:
    """Check for one connection per session, each under the algorithm that it requested."""
    connections = evidence.report.connections
    require(len(connections) == len(PORTS), f'{len(connections)} connections')
    secrets = {key.master_key.reveal() for key in evidence.keys}
    require(len(secrets) == len(evidence.keys), 'two MKTs have one master key')
    for session in PORTS:
        used = {key.algorithm.name for key in evidence.keys if key.session == session}
        require(used == {ALGORITHMS[session]}, f'{session} ran under {used}')
        syn = _captured_syn(evidence, session).details
        ids = [(k.send_id, k.recv_id) for k in evidence.keys if k.session == session]
        require((syn['key_id'], syn['rnext_key_id']) == ids[0], f'{session}: SYN under {syn}')
    names = ', '.join(f'{session} under {name}' for session, name in ALGORITHMS.items())
    return f'{names}; {len(evidence.keys)} master keys, no two alike'


def one_backend_protects(evidence: Evidence) -> str:
    """Check that every installed MKT names its backend, which is the same on both routers."""
    installed = evidence.named(EventName.MKT_INSTALLED)
    both = {(event.router, event.session) for event in installed}
    require(both == set(product(ROUTERS, PORTS)), f'MKTs were installed only for {both}')
    names = {event.details.get('backend') for event in installed}
    require(names in ({'kernel'}, {'userspace'}), f'MKTs were installed by {names}')
    return f'all {len(installed)} MKTs were installed by one backend, {names.pop()}'


# --- routes and rekey ---------------------------------------------------------------------------


def keys_are_replaced(evidence: Evidence) -> str:
    """Check on both routers, for both sessions: RNext changed, and then the first key was
    removed.
    """
    for session in PORTS:
        for router in ROUTERS:
            begun, moved, removed = (
                [e for e in evidence.named(name, router) if e.session == session]
                for name in (EventName.REKEY_STARTED, EventName.RNEXT_MOVED, EventName.MKT_REMOVED)
            )
            # Of two successors requested at once, one is removed too, and earlier.
            first = begun[0].details.get('send_id') if begun else None
            removed = [event for event in removed if event.details.get('send_id') == first]
            steps = [events[0].time if events else None for events in (begun, moved, removed)]
            require(None not in steps, f'{router} {session}: no rekey to its end')
            require(steps == sorted(steps, key=lambda t: t or 0), f'{router} {session}: {steps}')
    changed = {c.client[1]: _key_ids(c) for c in evidence.report.connections}
    for session, port in PORTS.items():
        both = changed.get(port, {})
        require(
            min((len(ids) for ids in both.values()), default=0) > 1,
            f'{session}: KeyIDs on the wire {both}',
        )
    counts = ', '.join(
        f'{len(changed[port][True])} keys in turn for {session}' for session, port in PORTS.items()
    )
    return f'both sessions rekeyed, the old key removed at both ends ({counts})'


def _key_ids(connection: Connection) -> dict[bool, set[int]]:
    """Return the KeyIDs of good segments, by direction (True: from the client)."""
    ids: dict[bool, set[int]] = {True: set(), False: set()}
    for verdict in connection.verdicts:
        if verdict.key is not None and verdict.option is not None:
            ids[verdict.from_client].add(verdict.option.key_id)
    return ids


def routes_stay(evidence: Evidence) -> str:
    """Check for both prefixes in every sample, from before a rekey until after it."""
    words = []
    for session in PORTS:
        # Only the time in which the wire was captured.
        summary = _samplings(evidence, session)[0]
        d = summary.details
        require(d['samples'] == d['present'], f'{session}: {d}')
        first, last = _number(summary, 'first'), _number(summary, 'last')
        for router in ROUTERS:
            for name in (EventName.REKEY_STARTED, EventName.RNEXT_MOVED, EventName.MKT_REMOVED):
                times = [e.time for e in evidence.named(name, router) if e.session == session]
                sampled = any(first < time < last for time in times)
                require(sampled, f'{router} {session}: no sample before and after {name}')
        gap = _number(summary, 'longest_gap')
        require(gap < LONGEST_GAP, f'{session}: nothing sampled for {gap} s')
        words.append(f'{d["prefix"]} in {d["present"]} of {d["samples"]}')
    return f'both routes there through the rekeys ({", ".join(words)} samples)'


def sessions_stay(evidence: Evidence) -> str:
    """Check that the up-time is never reset, while impostors attack too."""
    opened = {
        session: max(
            e.time for e in evidence.named(EventName.ESTABLISHED, 'r2') if e.session == session
        )
        for session in PORTS
    }
    uptimes = []
    for session, since in opened.items():
        summary = _samplings(evidence, session)[-1]
        d = summary.details
        require(d['resets'] == 0 and d['samples'] == d['present'], f'{session}: {d}')
        uptime, expected = _number(summary, 'uptime'), summary.time - since
        # In whole seconds, and a moment after the key was proven.
        require(abs(expected - uptime) < 3, f'{session}: up {uptime} s of {expected:.1f} s')
        uptimes.append(uptime)
    return f'both sessions up without a reset (for {min(uptimes):.0f} s)'


def _samplings(evidence: Evidence, session: str) -> list[OperatorEvent]:
    return [
        event
        for event in evidence.named(EventName.ROUTE, 'r2')
        if event.session == session and 'samples' in event.details
    ]


# --- impostors ----------------------------------------------------------------------------------


def impostors_are_refused(evidence: Evidence) -> str:
    """Check the results of all attacks."""
    outcomes = [e for e in evidence.named(EventName.REFUSED) if 'impostor' in e.details]
    require(len(outcomes) == ATTACKS, f'{len(outcomes)} attacks of {ATTACKS}')
    for outcome in outcomes:
        d = outcome.details
        require(d['refused'] is True, f'{d["impostor"]}: {d["outcome"]}')
    return f'all {len(outcomes)} impostors were refused'


def impostors_hear_no_bgp(evidence: Evidence) -> str:
    """Check by their link's capture that impostors get no octet of TCP payload from r2, and no key.

    While r2's route to r1 leads there, r2's messages to r1 itself appear there too: signed segments
    of the two sessions, and exchanges of an IKE SA that no impostor has begun.
    """
    answers = [
        packet.segment
        for packet in tcp(evidence.refused)
        if str(packet.segment.source) == R2 and not _is_for_r1(packet.segment)
    ]
    require(any(s.is_syn_ack for s in answers), 'no impostor ever got a connection')
    octets = sum(len(segment.payload) for segment in answers)
    require(not octets, f'{octets} octets of BGP went to impostors')
    messages = list(ike(evidence.refused))
    theirs = {message.header.initiator_spi for message in messages if message.begins}
    given = [m for m in messages if m.source == R2 and m.header.initiator_spi in theirs]
    require(
        not any(message.is_a(ExchangeType.CREATE_CHILD_SA) for message in given),
        'an impostor was given a CREATE_CHILD_SA',
    )
    return f'no octet of BGP in the {len(answers)} segments that impostors got'


def _is_for_r1(segment: Segment) -> bool:
    """Return True for a signed segment of one of the two sessions."""
    to_session = str(segment.destination) == R1 and segment.destination_port in PORTS.values()
    return to_session and segment.ao_option() is not None


def forged_syns_get_no_answer(evidence: Evidence) -> str:
    """Check that SYNs from r1's address, unsigned or under a wrong key, are dropped in silence."""
    segments = [packet.segment for packet in tcp(evidence.refused)]
    for port in IMPOSTOR_PORTS:
        sent = [s for s in segments if s.source_port == port and s.destination_port == BGP]
        got = [s for s in segments if s.destination_port == port]
        require(sent and all(s.is_opening for s in sent), f'no SYN from port {port}')
        require(not got, f'{len(got)} answers to port {port}')
    return "SYNs from r1's address, unsigned or under a wrong key, got no answer"


def wire_is_closed_first(evidence: Evidence) -> str:
    """Check that no impostor used r1's address while the routers' link was captured."""
    closed = max(_closing(evidence).time, *(packet.time for packet in evidence.wire))
    from_impostor = [p for p in tcp(evidence.wire) if IMPOSTOR in _ends(p.segment.source)]
    require(not from_impostor, "the impostor is on the routers' link")
    spoofed = [p.time for p in tcp(evidence.refused) if str(p.segment.source) == R1]
    spoofed += [p.time for p in ike(evidence.refused) if p.source == R1]
    require(
        spoofed and min(spoofed) > closed, "r1's address was used before the capture was closed"
    )
    return "r1's address was only used by an impostor after wire.pcap was closed"


def _ends(*addresses: object) -> set[str]:
    return {str(address) for address in addresses}


# --- secrets ------------------------------------------------------------------------------------


def nothing_secret_is_told(evidence: Evidence) -> str:
    """Check that no master key is in a log, in the timeline or on the wire."""
    others = [path for path in sorted(evidence.folder.iterdir()) if path.name != KEYS]
    for path in others:
        octets = path.read_bytes()
        for key in evidence.keys:
            secret = key.master_key.reveal()
            require(len(secret) >= SHORTEST_SECRET, 'a short master key')
            told = secret in octets or secret.hex().encode() in octets.lower()
            require(not told, f'{path} holds a master key')
    return f'no master key in {", ".join(path.name for path in others)}'


def _closing(evidence: Evidence) -> OperatorEvent:
    """Return the event of the end of the capture."""
    return next(e for e in evidence.named(EventName.END) if 'captured_from' in e.details)


def _captured_syn(evidence: Evidence, session: str) -> OperatorEvent:
    found = [
        event
        for event in evidence.named(EventName.SYN)
        if event.session == session and event.details.get('captured')
    ]
    require(len(found) == 1, f'{session}: {len(found)} SYNs captured')
    return found[0]


def _number(event: OperatorEvent, name: str) -> float:
    value = event.details.get(name)
    require(isinstance(value, int | float), f'{event.event} has no {name}')
    assert isinstance(value, int | float)
    return float(value)


CHECKS: tuple[Check, ...] = (
    begins_before_ike,
    ike_before_syn,
    every_segment_is_signed,
    macs_verify,
    macs_verify_with_scapy,
    each_session_has_its_own_key,
    one_backend_protects,
    keys_are_replaced,
    routes_stay,
    sessions_stay,
    impostors_are_refused,
    impostors_hear_no_bgp,
    forged_syns_get_no_answer,
    wire_is_closed_first,
    nothing_secret_is_told,
)


def judge(folder: Path) -> Iterator[tuple[bool, str]]:
    """Yield each check's outcome and text; unreadable evidence is a failure too."""
    try:
        evidence = Evidence.read(folder)
    except Exception as error:
        yield False, f'the evidence in {folder} is incomplete: {error}'
        return
    for check in CHECKS:
        try:
            yield True, check(evidence)
        except Exception as error:
            # Evidence on which a check can't run is a failure.
            yield False, f'{check.__name__}: {error or type(error).__name__}'
