"""Our endpoint and another implementation, configured for each other, and the rows of the table.

What holds for any other implementation: swan.py and pluto.py know one each.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from ikev2.authentication.identity import Identity
from ikev2.authentication.ppk import Ppk
from ikev2.events import Cause, IkeSaFailed, IkeSaUp, IPAddress, RpSaRequest, Selector
from ikev2.limits import Limits
from ikev2.peer import Peer
from ikev2.proposals.ike import IkePolicy
from tests.ikev2.interop.driver import Driver
from tests.ikev2.interop.proofs import Proof
from tests.ikev2.interop.wire import OUR_ADDRESS, OUR_NAME, PEER_ADDRESS, PEER_NAME, Wire
from tests.interop_report import Row, shared_report

_E = TypeVar('_E')

ROLES = ('initiator', 'responder')
"""Ours."""


RP_SA = RpSaRequest(
    keyid=1,
    suites=('hmac-sha-1-96',),
    tcp_options=True,
    tsi=Selector(OUR_ADDRESS, 40001),
    tsr=Selector(PEER_ADDRESS, 179),
    session_id=b'\x01\x00\x01\x01bgp',
    lifetime=60,
)
"""What another implementation can't make."""


@dataclass(frozen=True)
class Setup:
    """One connection, for both ends."""

    ours: Proof
    """How we prove ourselves."""
    theirs: Proof
    policy: IkePolicy = field(default_factory=IkePolicy)
    """Ours."""
    proposal: str = ''
    """Theirs, in their own words; empty for AES-256-GCM-16, HMAC-SHA2-256 and Curve25519."""
    options: str = ''
    """More of theirs."""
    their_auth: str = ''
    """Which signatures they make, in their own words; empty for what they like best."""
    our_id: tuple[str, str] = ('fqdn', OUR_NAME)
    their_id: tuple[str, str] = ('fqdn', PEER_NAME)
    addresses: tuple[IPAddress, IPAddress] = (OUR_ADDRESS, PEER_ADDRESS)
    believed: Proof | None = None
    """What we take them to prove themselves with, if that is something else."""
    expected: Proof | None = None
    """What they take us to prove ourselves with, if that is something else."""
    ppk: Ppk | None = None
    our_ppk: Ppk | None = None
    """If it is another one, ours."""
    limits: Limits = field(default_factory=lambda: Limits(unproven_refusal=0.5))
    """Ours. On this wire no refusal is forged: no need to wait long for a better answer."""

    def peer(self) -> Peer:
        """The other end as we configure it."""
        return Peer(
            name='theirs',
            local_id=Identity.parse(*self.our_id),
            remote_id=Identity.parse(*self.their_id),
            credential=self.ours.credential,
            remote_credential=(self.believed or self.theirs).accepted,
            addresses=(self.addresses,),
            policy=self.policy,
            ppk=self.our_ppk or self.ppk,
        )


@dataclass(frozen=True)
class OtherSa:
    """An IKE SA that the other end says that it has up."""

    initiator: bool
    """The other end is."""
    spis: str
    """In the form of IkeSaUp; empty if it doesn't tell."""
    algorithms: str
    """In its own words."""


class OtherEnd(Protocol):
    """A daemon of another implementation."""

    name: str
    """With its version."""

    def configure(self, setup: Setup) -> None:
        """This connection and no other; nothing is left of the one before."""

    def initiate(self) -> subprocess.Popen[bytes]:
        """Begin an IKE SA: a command that ends when that is done, in success or failure."""

    def sas(self) -> list[OtherSa]:
        """Return the other end's IKE SAs that are up, as the other end tells them."""

    def log_text(self) -> str:
        """Return the other end's log since it was configured."""


class Pair:
    """The two ends, one row after the other."""

    def __init__(self, wire: Wire, other: OtherEnd) -> None:
        self.wire = wire
        self.other = other
        self.driver: Driver | None = None
        self._report = shared_report(
            'ikev2', 'IKEv2 interoperability', ('peer', 'we are', 'what', 'with')
        )

    def row(self, role: str, what: str, how: str = '') -> AbstractContextManager[Row]:
        """Report what happens inside as one row: good unless it raises."""
        return self._report.row(self.other.name, role, what, how)

    def configure(self, setup: Setup) -> Driver:
        """Both ends."""
        self.close()
        self.other.configure(setup)
        return self.renew(setup)

    def renew(self, setup: Setup) -> Driver:
        """Our end only, which knows nothing of before."""
        self.driver = Driver(self.wire.ours, setup.peer(), setup.limits)
        return self.driver

    def bring_up(self, setup: Setup, role: str) -> Driver:
        """Configure both ends, and make an IKE SA that both say is up, the same one."""
        self.configure(setup)
        return self.connect(setup, role)

    def connect(self, setup: Setup, role: str) -> Driver:
        """Make an IKE SA that both ends say is up, the same one."""
        driver = self.driver
        assert driver
        if role == 'initiator':
            driver.endpoint.connect('theirs', driver.now())
            up = self.wait_for(IkeSaUp)
        else:
            with self.initiated() as command:
                up = self.wait_for(IkeSaUp)
                # Whatever it says: a child that we refuse is a failure for some.
                assert driver.run_until_exit(command), self.other.log_text()
        assert up.initiator == (role == 'initiator')
        assert not up.profile
        assert not up.nat
        assert up.peer_id == str(Identity.parse(*setup.their_id))
        self.same_at_both_ends()
        return driver

    def refused(self, setup: Setup, role: str) -> IkeSaFailed:
        """No IKE SA at either end, and why we think so."""
        driver = self.configure(setup)
        if role == 'initiator':
            driver.endpoint.connect('theirs', driver.now())
            failed = self.wait_for(IkeSaFailed)
        else:
            with self.initiated() as command:
                failed = self.wait_for(IkeSaFailed)
                assert driver.run_until_exit(command), self.other.log_text()
                assert command.returncode
        assert not self.other.sas(), self.other.log_text()
        assert not driver.all(IkeSaUp)
        return failed

    def outcome(self, setup: Setup, role: str) -> IkeSaUp | IkeSaFailed:
        """Configure both ends and try: what it comes to is for the other end to say."""
        driver = self.configure(setup)
        if role == 'initiator':
            driver.endpoint.connect('theirs', driver.now())
            ended = driver.run_until(lambda: bool(driver.all(IkeSaUp) + driver.all(IkeSaFailed)))
        else:
            with self.initiated() as command:
                ended = driver.run_until_exit(command)
        found: list[IkeSaUp | IkeSaFailed] = [*driver.all(IkeSaUp), *driver.all(IkeSaFailed)]
        assert ended, self.other.log_text()
        assert found, self.other.log_text()
        return found[0]

    def nothing_in_common(self, setup: Setup, role: str) -> None:
        """No proposal is acceptable to the responder, which says so; no IKE SA at either end."""
        driver = self.configure(setup)
        if role == 'initiator':
            driver.endpoint.connect('theirs', driver.now())
            assert self.wait_for(IkeSaFailed).cause == Cause.NO_PROPOSAL_CHOSEN
        else:
            with self.initiated() as command:
                assert driver.run_until_exit(command), self.other.log_text()
                assert command.returncode
        assert driver.messages('IKE_SA_INIT')[-1] == 'N(NO_PROPOSAL_CHOSEN)'
        assert not self.other.sas(), self.other.log_text()
        assert not driver.sas

    def wait_for(self, kind: type[_E]) -> _E:
        """Our next event of a class; a failure that has both ends' stories if none comes."""
        assert self.driver
        return self.driver.wait_for(kind, more=self.other.log_text)

    @contextmanager
    def initiated(self) -> Iterator[subprocess.Popen[bytes]]:
        """The other end begins; its command is gone in the end."""
        command = self.other.initiate()
        try:
            yield command
        finally:
            command.kill()
            command.wait()

    def same_at_both_ends(self) -> None:
        """Each end has one IKE SA up, and it is the same."""
        assert self.driver
        ours = self.driver.only_sa()
        (theirs,) = self.other.sas()
        assert theirs.spis in ('', ours.spis), self.other.log_text()
        assert theirs.initiator is not ours.initiator, self.other.log_text()

    def algorithms(self) -> str:
        """Return the algorithms that the other end tells of its one IKE SA."""
        (theirs,) = self.other.sas()
        return theirs.algorithms

    def close(self) -> None:
        """Our end of the row."""
        if self.driver:
            self.driver.close()
            self.driver = None
