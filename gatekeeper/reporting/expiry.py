"""Expiry of certificates, trust anchors, CRLs and keychains.

Pure: no clock, `wall` is seconds since the epoch. `engine.expiry_warnings` reports it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from math import inf

from gatekeeper.policy.keychain import Keychain, utc
from gatekeeper.policy.sessions import PadEntry, SessionPolicy
from ikev2.authentication.credentials import CertifiedKey, TrustAnchors
from ikev2.authentication.x509.crl import RevocationList

DAY = 86400.0
LONGEST_NOTICE = 30 * DAY
"""Seconds before the end: the notice for long lifetimes is a month."""
OF_A_CERTIFICATE, OF_OTHERS = 1 / 3, 1 / 10
"""The notice for shorter lifetimes, as a part of them: certificates are short where a program
renews them."""
ONCE_MORE = 1 / 10
"""The last part of the notice, at which the warning is repeated."""


class ExpiryStage(IntEnum):
    """The distance to the end."""

    FAR = 0
    NEAR = 1
    SOON = 2
    OVER = 3


@dataclass(frozen=True, slots=True)
class Expiry:
    """The end of an object that sessions depend on."""

    what: str
    """A text for the object, unique."""
    at: float
    """Seconds since the epoch; -inf if `what` says that it has ended."""
    notice: float
    """Seconds before `at`."""
    then: str
    """The consequence."""
    hint: str
    """The advice."""

    def stage(self, wall: float) -> ExpiryStage:
        """Return the stage at this time."""
        return ExpiryStage(sum(wall >= when for when in self._times()))

    def next_time(self, wall: float) -> float:
        """Return when the next stage begins; infinity if none does."""
        return min((when for when in self._times() if when > wall), default=inf)

    def words(self, wall: float) -> str:
        """Return a text: what ends when, and the consequence."""
        if self.at == -inf:
            return f'{self.what}: {self.then}'
        if wall >= self.at:
            return f'{self.what} has ended: {self.then}'
        left = self.at - wall
        if left >= 2 * DAY:
            span = f'{left / DAY:.0f} days'
        else:
            span = f'{left / 3600:.0f} hours' if left >= 7200 else f'{left / 60:.0f} minutes'
            span = span if left >= 120 else f'{left:.0f} seconds'
        return f'{self.what} ends in {span}, at {utc(self.at)}: then {self.then}'

    def _times(self) -> tuple[float, float, float]:
        return self.at - self.notice, self.at - self.notice * ONCE_MORE, self.at


def ends_of(policies: Iterable[SessionPolicy], wall: float) -> dict[Expiry, list[str]]:
    """Return every end, with the neighbors that it concerns: one certificate may be for
    hundreds.
    """
    found: dict[Expiry, list[str]] = {}
    seen: dict[int, list[Expiry]] = {}
    for policy in policies:
        # Hundreds of neighbors may share a keychain too: examined once.
        source = policy.keychain if policy.keychain is not None else policy.pad
        if id(source) not in seen:
            seen[id(source)] = list(_ends(source, wall))
        for end in seen[id(source)]:
            found.setdefault(end, []).append(policy.neighbor)
    return found


def _ends(source: Keychain | PadEntry | None, wall: float) -> Iterator[Expiry]:
    if isinstance(source, Keychain):
        yield from _of_chain(source, wall)
    elif source is not None:
        if isinstance(source.local_credential, CertifiedKey):
            yield _of_certificate(source.local_credential)
        if isinstance(source.peer_credential, TrustAnchors):
            yield from _of_anchors(source.peer_credential)


def _of_certificate(own: CertifiedKey) -> Expiry:
    first = min(own.chain, key=lambda certificate: certificate.not_after)
    whose = 'our certificate' if first is own.chain[0] else 'of our certificates that of the CA'
    return Expiry(
        f'{whose} {first.name}',
        first.not_after,
        _notice(first.not_before, first.not_after, OF_A_CERTIFICATE),
        'no peer takes our proof any more, and sessions end with their keys',
        'put a renewed one in its place, and reload',
    )


def _of_anchors(trust: TrustAnchors) -> Iterator[Expiry]:
    last = max(trust.anchors, key=lambda anchor: anchor.not_after)
    yield Expiry(
        f'trust anchor {last.name}',
        last.not_after,
        _notice(last.not_before, last.not_after, OF_A_CERTIFICATE),
        'no certificate of its peers is taken any more, and sessions end with their keys',
        'add the next one to trust-anchor, and reload',
    )
    newest: dict[object, RevocationList] = {}
    for crl in sorted(trust.lists, key=lambda crl: crl.next_update):
        newest[crl.issuer] = crl
    for crl in newest.values():
        yield Expiry(
            f'the CRL of {crl.issuer_name}',
            crl.next_update,
            _notice(crl.this_update, crl.next_update, OF_OTHERS),
            'no certificate of that CA is taken any more, and sessions end with their keys',
            'put the new one in its place, and reload',
        )


def _of_chain(chain: Keychain, wall: float) -> Iterator[Expiry]:
    hint = 'add a key to the keychain at both ends, and reload'
    if chain.preferred(wall) is None:
        yield Expiry(chain.why_denied(wall), -inf, 0.0, 'its sessions are down', hint)
        return
    at, key = wall, chain.preferred(wall)
    while (turn := chain.next_turn(at)) is not None:
        at, follows = turn
        if follows is None:
            assert key is not None
            notice = _notice(key.send.start, at, OF_OTHERS)
            name = f'keychain {chain.name}: {key} has no successor, and'
            yield Expiry(name, at, notice, 'its sessions go down', hint)
            return
        key = follows


def _notice(start: float, end: float, share: float) -> float:
    return min(LONGEST_NOTICE, (end - start) * share)
