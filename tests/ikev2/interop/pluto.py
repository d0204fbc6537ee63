"""libreswan in a network namespace: a pluto for each connection, since it starts in no time.

Its package conflicts with strongSwan's, so `make test` unpacks it into a root of its own, and only
pluto sees that: it runs in a private mount namespace.
"""

from __future__ import annotations

import re
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from tests.ikev2.interop.pair import OtherSa, Setup
from tests.ikev2.interop.proofs import Proof
from tests.ikev2.interop.wire import call

PROGRAMS = Path(__file__).resolve().parents[3] / 'build' / 'libreswan' / 'usr' / 'libexec' / 'ipsec'
_PROPOSAL = 'aes_gcm256-sha2_256;dh31'
_PASSWORD = 'interop'


class Pluto:
    """A pluto and what is asked of it."""

    def __init__(self, namespace: str, folder: Path) -> None:
        assert (PROGRAMS / 'pluto').exists(), 'libreswan is missing: make libreswan'
        self.folder = folder
        self._namespace = namespace
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / 'pluto.log'
        self._nss = f'sql:{folder / "nss"}'
        version = re.search(r'Libreswan (\S+)', call(str(PROGRAMS / 'whack'), '--version'))
        assert version
        self.name = f'libreswan {version[1]}'

    # --- as OtherEnd -------------------------------------------------------------------------

    def configure(self, setup: Setup) -> None:
        """This connection and no other."""
        self.stop()
        self._write(setup)
        self._write_keys(setup)
        command = [
            *('/usr/libexec/ipsec/pluto', '--nofork', '--use-xfrm', '--logfile', str(self._log)),
            *('--config', str(self.folder / 'ipsec.conf'), '--rundir', str(self.folder / 'run')),
            *('--nssdir', str(self.folder / 'nss')),
            *('--secretsfile', str(self.folder / 'ipsec.secrets')),
        ]
        # It calls other programs by their full names.
        shell = f'mount --bind {PROGRAMS.parent} /usr/libexec && exec {" ".join(command)}'
        self._process = subprocess.Popen(
            ['ip', 'netns', 'exec', self._namespace, 'sh', '-c', shell],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait_for_control()
        self.control('--listen')
        self._add_connection()

    def initiate(self) -> subprocess.Popen[bytes]:
        """Begin an IKE SA with a child: it knows none without."""
        return self.start('--initiate', '--name', 'ours')

    def sas(self) -> list[OtherSa]:
        """Return pluto's IKE SAs that are up; pluto doesn't tell their SPIs."""
        found = re.findall(r'#(\d+): .*STATE_V2_ESTABLISHED_IKE_SA', self.control('--showstates'))
        return [self._sa(int(number)) for number in found]

    def log_text(self) -> str:
        """Return pluto's log since it was configured, without what it tells of itself."""
        text = self._log.read_text(errors='replace') if self._log.exists() else ''
        return text.partition('starting up')[2] or text

    # --- beyond ------------------------------------------------------------------------------

    def control(self, *arguments: str) -> str:
        """A whack command that must succeed."""
        return call(*self._whack(*arguments))

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A whack command that goes on while we answer."""
        return subprocess.Popen(
            self._whack(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def refusal(self, setup: Setup) -> str:
        """Return what is said of keys that it can't take; empty if it takes them."""
        try:
            self.configure(setup)
        except AssertionError as error:
            return str(error).rpartition('certutil: ')[2]
        return ''

    def stop(self) -> None:
        """End it."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _sa(self, number: int) -> OtherSa:
        log = self.log_text()
        began = f'#{number}: initiat' in log
        algorithms = re.search(
            rf'#{number}: .*\{{cipher=(\S+) integ=\S+ prf=(\S+) group=(\S+)\}}', log
        )
        return OtherSa(began, '', ' '.join(algorithms.groups()) if algorithms else '')

    def _write(self, setup: Setup) -> None:
        shutil.rmtree(self.folder)
        (self.folder / 'run').mkdir(parents=True)
        (self.folder / 'nss').mkdir()
        ours, theirs = setup.addresses
        lines = [
            f'left={theirs}',
            f'leftid={_identity(setup.their_id)}',
            f'right={ours}',
            f'rightid={_identity(setup.our_id)}',
            f'ike={setup.proposal or _PROPOSAL}',
            *('ikev2=insist', 'type=transport', 'auto=ignore'),
            *('leftprotoport=tcp/179', 'rightprotoport=tcp', 'retransmit-interval=300'),
            *_authentication(setup),
            *(['ppk=insist'] if setup.ppk else []),
            *setup.options.splitlines(),
        ]
        (self.folder / 'ipsec.conf').write_text(
            f'config setup\n\tnssdir={self.folder}/nss\n\tdumpdir={self.folder}/run\n'
            f'\tsecretsfile={self.folder}/ipsec.secrets\n\tipsecdir={self.folder}\n'
            f'conn ours\n' + ''.join(f'\t{line}\n' for line in lines)
        )
        ids = f'{_identity(setup.our_id)} {_identity(setup.their_id)}'
        psk = setup.theirs.psk or setup.ours.psk
        secrets = f'{ids} : PSK "{psk}"\n' if psk else ''
        if setup.ppk:
            secrets += f'{ids} : PPKS "{setup.ppk.identity}" 0x{setup.ppk.secret.reveal().hex()}\n'
        (self.folder / 'ipsec.secrets').write_text(secrets)

    def _write_keys(self, setup: Setup) -> None:
        call('certutil', '-N', '-d', self._nss, '--empty-password')
        if setup.ours.anchor:
            self._add_ca('ours', setup.ours.anchor.pem, 'CT,C,C')
        if setup.theirs.anchor:
            bundle = self.folder / 'theirs.p12'
            bundle.write_bytes(_bundle(setup.theirs))
            call(*('pk12util', '-i', str(bundle), '-d', self._nss, '-W', _PASSWORD, '-K', ''))

    def _add_ca(self, name: str, pem: bytes, trust: str) -> None:
        path = self.folder / f'{name}.pem'
        path.write_bytes(pem)
        call(*('certutil', '-A', '-n', name, '-t', trust, '-d', self._nss, '-a', '-i', str(path)))

    def _add_connection(self) -> None:
        configuration = ('--config', str(self.folder / 'ipsec.conf'))
        said = call(str(PROGRAMS / 'addconn'), *configuration, *self._socket, 'ours')
        assert 'added IKEv2 connection' in self.log_text(), f'{said}\n{self.log_text()}'

    @property
    def _socket(self) -> tuple[str, str]:
        return '--ctlsocket', str(self.folder / 'run' / 'pluto.ctl')

    def _whack(self, *arguments: str) -> list[str]:
        return [str(PROGRAMS / 'whack'), *self._socket, *arguments]

    def _wait_for_control(self) -> None:
        """pluto does not tell that it is ready: its control socket answers, or it has ended."""
        ask = self._whack('--status')
        self.wait_until(lambda: not subprocess.run(ask, capture_output=True).returncode, 60)

    def wait_until(self, done: Callable[[], bool], seconds: float = 30) -> None:
        """Until something holds that it doesn't tell of its own."""
        assert self._process
        deadline = time.monotonic() + seconds
        while not done():
            assert self._process.poll() is None, f'pluto ended:\n{self.log_text()}'
            assert time.monotonic() < deadline, self.log_text()
            # The wait of an inotify without an inotify.
            select.select([], [], [], 0.05)


def _identity(identity: tuple[str, str]) -> str:
    """An identity in its words: it takes the kind from the form."""
    kind, value = identity
    return {
        'fqdn': f'@{value}',
        'key-id': f'@#{value.encode().hex()}',
        'dn': f'"{value}"',
    }.get(kind, value)


def _authentication(setup: Setup) -> list[str]:
    if setup.ours.psk:
        return ['authby=secret']
    return [
        f'authby={setup.their_auth}',
        *('leftcert=theirs', 'leftsendcert=always', 'sendca=all', 'rightca=%any'),
    ]


def _bundle(theirs: Proof) -> bytes:
    """Return the private key and its certificates, PKCS #12."""
    leaf, *others = theirs.chain
    assert theirs.anchor
    return pkcs12.serialize_key_and_certificates(
        b'theirs',
        theirs.key,
        leaf.parsed,
        [other.parsed for other in (*others, theirs.anchor)],
        BestAvailableEncryption(_PASSWORD.encode()),
    )
