"""strongSwan in a network namespace: one charon for many connections, one after the other."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ikev2.interop.pair import OtherSa, Setup
from tests.ikev2.interop.proofs import Proof

CHARON = Path('/usr/lib/ipsec/charon')
_PROPOSAL = 'aes256gcm16-prfsha256-x25519'

_STRONGSWAN_CONF = """
charon {{
    load_modular = yes
    install_routes = no
    install_virtual_ip = no
    # Seconds, and factor of each further wait.
    retransmit_timeout = 0.3
    retransmit_base = 1.4
    retransmit_tries = 8
    {settings}
    plugins {{ include /etc/strongswan.d/charon/*.conf }}
    filelog {{ log {{ path = {log}
                      default = 1
                      ike = 2
                      flush_line = yes }} }}
}}
"""


class Swan:
    """A charon and what is asked of it."""

    def __init__(self, namespace: str, folder: Path, settings: str = '') -> None:
        assert CHARON.exists(), f'{CHARON} is missing: make packages-test'
        assert shutil.which('swanctl'), 'swanctl is missing: make packages-test'
        self.folder = folder
        self._log = folder / 'charon.log'
        self._seen = 0
        self._settings(settings)
        self._environment = {
            **os.environ,
            'STRONGSWAN_CONF': str(folder / 'strongswan.conf'),
            'SWANCTL_DIR': str(folder),
        }
        # A private /run, where its socket and pid file go: `ip netns exec` unshares mounts.
        shell = f'mount -t tmpfs tmpfs /run && echo ready && exec {CHARON}'
        self._process = subprocess.Popen(
            ['ip', 'netns', 'exec', namespace, 'sh', '-c', shell],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b'ready\n'
        self._wait_for_control()
        version = re.search(r'strongSwan ([\w.]+)', self.log_text())
        assert version, self.log_text()
        self.name = f'strongSwan {version[1]}'

    # --- as OtherEnd -------------------------------------------------------------------------

    def configure(self, setup: Setup) -> None:
        """This connection and no other."""
        for fields in self._listed():
            self._swanctl('--terminate', '--ike-id', fields['uniqueid'], '--force')
        self._seen = len(self._text())
        self._write(setup)
        self.control('--load-all', '--clear')

    def initiate(self, *what: str) -> subprocess.Popen[bytes]:
        """Begin an IKE SA without a child, or what is asked for."""
        return self.start('--initiate', *(what or ('--ike', 'ours')), '--timeout', '20')

    def sas(self) -> list[OtherSa]:
        """Return strongSwan's IKE SAs that are up."""
        return [_sa(fields) for fields in self._listed() if fields['state'] == 'ESTABLISHED']

    def log_text(self) -> str:
        """Return strongSwan's log since it was configured."""
        return self._text()[self._seen :]

    # --- beyond ------------------------------------------------------------------------------

    def control(self, *arguments: str) -> str:
        """A swanctl command that must succeed."""
        done = self._swanctl(*arguments)
        assert done.returncode == 0, f'{done.stdout}{done.stderr}\n{self.log_text()}'
        return done.stdout

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A swanctl command that goes on while we answer."""
        return subprocess.Popen(
            self._command(*arguments),
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def refusal(self, setup: Setup) -> str:
        """Return what it says to a configuration that it can't take; empty if it takes it."""
        self._write(setup)
        done = self._swanctl('--load-all', '--clear')
        if not done.returncode:
            return ''
        first = next(line for line in done.stderr.splitlines() if 'opening directory' not in line)
        return first.replace(f'{self.folder}/', '')

    @contextmanager
    def settings(self, settings: str) -> Iterator[None]:
        """With these in the section charon of strongswan.conf."""
        self._settings(settings)
        self.control('--reload-settings')
        try:
            yield
        finally:
            self._settings('')
            self.control('--reload-settings')

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _settings(self, settings: str) -> None:
        (self.folder / 'strongswan.conf').write_text(
            _STRONGSWAN_CONF.format(log=self._log, settings=settings)
        )

    def _text(self) -> str:
        return self._log.read_text(errors='replace') if self._log.exists() else ''

    def _write(self, setup: Setup) -> None:
        self._write_keys(setup)
        ours, theirs = setup.addresses
        local = _local(setup.theirs, setup.their_auth or 'pubkey')
        remote = _remote(setup.expected or setup.ours)
        options = setup.options
        if 'childless' not in options:
            options += '\nchildless = force'
        if setup.ppk:
            options += f'\nppk_id = {setup.ppk.identity}'
        (self.folder / 'swanctl.conf').write_text(
            f"""connections {{ ours {{
                version = 2
                proposals = {setup.proposal or _PROPOSAL}
                local_addrs = {theirs}
                remote_addrs = {ours}
                local {{ {local}\n id = {_identity(setup.their_id)} }}
                remote {{ {remote}\n id = {_identity(setup.our_id)} }}
                {options}
                children {{ tcp {{
                    mode = transport
                    esp_proposals = aes256gcm16
                    local_ts = {theirs}[tcp/179]
                    remote_ts = {ours}[tcp]
                }} }}
            }} }}
            secrets {{ {_secrets(setup)} }}
            """
        )

    def _write_keys(self, setup: Setup) -> None:
        for name in _KEY_FOLDERS:
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir()
        for path, content in {
            **_ours(setup.expected or setup.ours),
            **_theirs(setup.theirs),
        }.items():
            (self.folder / path).write_bytes(content)

    def _listed(self) -> list[dict[str, str]]:
        """Return strongSwan's IKE SAs in whatever state, as fields and values."""
        events = self.control('--list-sas', '--raw').splitlines()
        return [
            dict(_FIELD.findall(event)) for event in events if event.startswith('list-sa event')
        ]

    def _command(self, *arguments: str) -> list[str]:
        return ['nsenter', '-t', str(self._process.pid), '-m', '-n', 'swanctl', *arguments]

    def _swanctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(*arguments),
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def _wait_for_control(self) -> None:
        """charon does not tell that it is ready: its control socket answers, or it has ended."""
        self.wait_until(lambda: not self._swanctl('--stats').returncode, 60)

    def wait_until(self, done: Callable[[], bool], seconds: float = 30) -> None:
        """Until something holds that it doesn't tell of its own."""
        deadline = time.monotonic() + seconds
        while not done():
            assert self._process.poll() is None, f'charon ended:\n{self.log_text()}'
            assert time.monotonic() < deadline, self.log_text()
            # The wait of an inotify without an inotify.
            select.select([], [], [], 0.05)


_KEY_FOLDERS = ('private', 'pubkey', 'x509', 'x509ca')
_FIELD = re.compile(r'([\w-]+)=(\S+)')


def _sa(fields: dict[str, str]) -> OtherSa:
    algorithms = (fields.get(name, '') for name in ('encr-alg', 'encr-keysize', 'integ-alg'))
    return OtherSa(
        initiator=fields.get('initiator') == 'yes',
        spis=f'{fields["initiator-spi"]}:{fields["responder-spi"]}',
        algorithms=' '.join(
            word for word in (*algorithms, fields['prf-alg'], fields['dh-group']) if word
        ),
    )


def _identity(identity: tuple[str, str]) -> str:
    """An identity in its words; it takes the kind from the form but for some."""
    kind, value = identity
    if kind == 'dn':
        # First part first, unlike RFC 4514.
        return f'"{", ".join(reversed(value.split(",")))}"'
    return f'"keyid:{value}"' if kind == 'key-id' else value


def _local(theirs: Proof, auth: str) -> str:
    """Return the settings of strongSwan's own proof."""
    if theirs.psk:
        return 'auth = psk'
    if theirs.chain:
        return f'auth = {auth}\n certs = theirs.pem'
    return f'auth = {auth}\n pubkeys = theirs.pem'


def _remote(ours: Proof) -> str:
    """Return the settings of the proof that strongSwan wants from us."""
    if ours.psk:
        return 'auth = psk'
    if ours.chain:
        return 'auth = pubkey\n cacerts = ours.pem'
    return 'auth = pubkey\n pubkeys = ours.pem'


def _ours(ours: Proof) -> dict[str, bytes]:
    """Return the files about us that strongSwan needs."""
    if ours.psk:
        return {}
    if ours.anchor:
        return {'x509ca/ours.pem': ours.anchor.pem}
    return {'pubkey/ours.pem': ours.public_pem}


def _theirs(theirs: Proof) -> dict[str, bytes]:
    """Return the files of strongSwan's own proof."""
    if theirs.psk:
        return {}
    files = {'private/theirs.pem': theirs.private_pem}
    if not theirs.anchor:
        return {**files, 'pubkey/theirs.pem': theirs.public_pem}
    leaf, *others = (*theirs.chain, theirs.anchor)
    files['x509/theirs.pem'] = leaf.pem
    return files | {f'x509/{number}.pem': one.pem for number, one in enumerate(others)}


def _secrets(setup: Setup) -> str:
    psk = setup.theirs.psk or setup.ours.psk
    text = ''
    if psk:
        ids = (_identity(setup.our_id), _identity(setup.their_id))
        text = f'ike {{ id-1 = {ids[0]}\n id-2 = {ids[1]}\n secret = "{psk}" }}\n'
    if setup.ppk:
        secret = f'0x{setup.ppk.secret.reveal().hex()}'
        text += f'ppk {{ id = {setup.ppk.identity}\n secret = {secret} }}\n'
    return text
