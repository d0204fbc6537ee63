"""The probable fault behind a bad MAC: the change that would make the MAC good.

The questions that engineers ask when two implementations disagree, tried one by one and then two
together: the options flag the other way, another KDF, the key of the other direction, another id, a
truncated MAC, another SNE. No result for segments that no such mistake explains.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations, islice, product
from typing import Any

from keymaterial import Secret
from tcpao.kdf import KmacUnavailableError, context, derive_traffic_key, same_kdf
from tcpao.mkt import ALGORITHMS, Algorithm
from tcpao.verification.connection import Connection
from tcpao.verification.known_keys import KnownKey
from tcpao.verification.mac import full_mac, mac_input, same_mac
from tcpao.verification.segment import AoOption
from tcpao.verification.verdict import Outcome, Verdict

MOST_DEVIATIONS = 2
SHORTEST_EVIDENCE = 8
"""Octets of a MAC: shorter ones may match by accident."""
MOST_KEYS = 64
"""Number of keys that are tried for one segment."""
MOST_TRIALS = 20_000
"""Trials for one capture: each thousand takes about a tenth of a second."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One assumption about how the sender made the MAC; None: the correct way."""

    key: KnownKey
    tcp_options: bool
    algorithm: Algorithm | None = None
    other_direction: bool = False
    sne: int | None = None
    syn_key: bool = False
    mac_length: int | None = None


class Diagnosis:
    """Explains segments of one capture; the last explanation is tried first on the next segment."""

    def __init__(self, keys: Sequence[KnownKey]) -> None:
        self._keys = list(keys)
        self._left = MOST_TRIALS
        self._explained: list[Trial] = []

    def remedy(self, connection: Connection, verdict: Verdict) -> str | None:
        """Return, in words, the change that would make the segment good; None if no known change
        does.
        """
        if (
            verdict.option is None
            or len(verdict.option.mac) < SHORTEST_EVIDENCE
            or verdict.sne is None
            or verdict.outcome is Outcome.GOOD
        ):
            return None
        for trial in self._trials(connection, verdict):
            if self._left <= 0:
                return None
            self._left -= 1
            if _fits(verdict, verdict.option, trial):
                if trial not in self._explained:
                    self._explained.insert(0, trial)
                return _words(connection, verdict, trial)
        return None

    def _trials(self, connection: Connection, verdict: Verdict) -> Iterator[Trial]:
        yield from list(self._explained)
        given = {id(key) for key in connection.keys}
        others = (key for key in self._keys if id(key) not in given)
        likely = list(islice(chain(connection.keys, others), MOST_KEYS))
        for deviations in range(1, MOST_DEVIATIONS + 1):
            for key in likely:
                yield from _suppositions(connection, verdict, key, deviations)


def _suppositions(
    connection: Connection, verdict: Verdict, key: KnownKey, deviations: int
) -> Iterator[Trial]:
    """Yield all assumptions that deviate from the given values in this many ways."""
    option, sne = verdict.option, verdict.sne
    assert option is not None
    assert sne is not None
    # A key that isn't given for this segment is a deviation already.
    left = deviations - (not _given_for(connection, verdict, key))
    if left < 0:
        return
    covered = (True, False) if key.tcp_options is None else (key.tcp_options,)
    others = [
        algorithm
        for algorithm in ALGORITHMS.values()
        if algorithm is not key.algorithm and algorithm.mac_length == len(option.mac)
    ]
    ways: dict[str, list[Any]] = {
        'algorithm': others,
        'other_direction': [True],
        'sne': [n for n in (0, sne - 1, sne + 1) if 0 <= n < 1 << 32 and n != sne],
    }
    if key.tcp_options is not None:
        ways['tcp_options'] = [not key.tcp_options]
    if not verdict.segment.is_opening:
        ways['syn_key'] = [True]
    if len(option.mac) != key.algorithm.mac_length:
        ways['mac_length'] = [len(option.mac)]
    for names in combinations(ways, left):
        for values in product(*(ways[name] for name in names)):
            changes = dict(zip(names, values, strict=True))
            for tcp_options in covered:
                yield replace(Trial(key, tcp_options), **changes)


def _given_for(connection: Connection, verdict: Verdict, key: KnownKey) -> bool:
    assert verdict.option is not None
    return key.may_protect(connection.client, connection.server) and key.may_sign(
        from_client=verdict.from_client, key_id=verdict.option.key_id
    )


def _fits(verdict: Verdict, option: AoOption, trial: Trial) -> bool:
    algorithm = trial.algorithm or trial.key.algorithm
    if len(option.mac) != (trial.mac_length or algorithm.mac_length):
        return False
    try:
        traffic_key = _traffic_key(verdict, trial, algorithm)
        message = mac_input(
            verdict.segment,
            option,
            _sne(verdict) if trial.sne is None else trial.sne,
            tcp_options=trial.tcp_options,
        )
        mac = full_mac(algorithm, traffic_key, message)
    except KmacUnavailableError:
        return False
    return hmac.compare_digest(option.mac, mac[: len(option.mac)])


def _traffic_key(verdict: Verdict, trial: Trial, algorithm: Algorithm) -> Secret:
    segment = verdict.segment
    assert verdict.source_isn is not None
    assert verdict.destination_isn is not None
    destination_isn = 0 if trial.syn_key else verdict.destination_isn
    here = (segment.source, segment.source_port, verdict.source_isn)
    there = (segment.destination, segment.destination_port, destination_isn)
    if trial.other_direction:
        here, there = there, here
    return derive_traffic_key(
        algorithm,
        trial.key.master_key,
        context(here[0], there[0], here[1], there[1], here[2], there[2]),
    )


def _sne(verdict: Verdict) -> int:
    assert verdict.sne is not None
    return verdict.sne


def _words(connection: Connection, verdict: Verdict, trial: Trial) -> str:
    """Return `would be good` and the conditions."""
    key, option = trial.key, verdict.option
    assert option is not None
    phrases = []
    if not key.may_protect(connection.client, connection.server):
        phrases.append('under a key that is given for other ends')
    if not key.may_sign(from_client=verdict.from_client, key_id=option.key_id):
        phrases.append(_other_id(verdict, key, option))
    if trial.algorithm is not None:
        phrases.append(_other_algorithm(key.algorithm, trial.algorithm))
    if key.tcp_options is not None and trial.tcp_options != key.tcp_options:
        flag = 'included in' if trial.tcp_options else 'excluded from'
        phrases.append(f'with TCP options {flag} the MAC')
    if trial.other_direction:
        phrases.append('with the traffic key of the other direction')
    if trial.syn_key:
        phrases.append("with the SYN's traffic key (the other ISN taken as 0)")
    if trial.sne is not None:
        phrases.append(f'with SNE {trial.sne} instead of {verdict.sne}')
    if trial.mac_length is not None:
        how = 'truncated' if trial.mac_length < key.algorithm.mac_length else 'not truncated'
        phrases.append(f'with a MAC of {trial.mac_length} octets, {how}')
    return f'would be good {" and ".join(phrases)}'


def _other_id(verdict: Verdict, key: KnownKey, option: AoOption) -> str:
    ids = f'SendID {_id(key.send_id)} and RecvID {_id(key.recv_id)}'
    if key.may_sign(from_client=not verdict.from_client, key_id=option.key_id):
        return f'under the key with {ids}, taken the other way round'
    return f'under the key with {ids}'


def _id(number: int | None) -> str:
    return '?' if number is None else str(number)


def _other_algorithm(given: Algorithm, fits: Algorithm) -> str:
    if same_mac(given, fits) and given.mac_length == fits.mac_length:
        return f'with the other KDF of this MAC: as {fits.name}'
    if same_kdf(given, fits):
        return f'with a MAC of {fits.mac_length} octets: as {fits.name}'
    return f'as {fits.name}'
