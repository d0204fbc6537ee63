"""The gatekeeper in the life of an ExaBGP daemon: its start, new policies, its end.

It starts in the first load of a configuration that has a gated neighbor: after the daemon has
forked and before it drops its privileges. A load that the gatekeeper refuses changes nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar

from exabgp.environment import getenv
from exabgp.logger import log
from exabgp.reactor.interrupt import Signal
from exabgp.reactor.loop import Reactor
from exabgp.reactor.peer import Peer

from gatekeeper.adapter.metrics_server import MetricsError, parse_endpoint, serve
from gatekeeper.errors import BusyError, PolicyError
from gatekeeper.policy.doubts import doubts_about
from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.reporting.adapter_names import AdapterNames
from gatekeeper.reporting.ike_key_log import IkeKeyLog
from gatekeeper.reporting.keys_json import KeyTable
from gatekeeper.reporting.metrics import Metrics
from gatekeeper.service.gatekeeper import Gatekeeper, GatekeeperError
from plugin.configuration import vrf
from plugin.configuration.environment import helper_obstacle
from plugin.configuration.loading import set_commit
from plugin.configuration.neighbors import protection_of
from plugin.configuration.session_policies import backend_of, unreachable
from plugin.configuration.validation import unknown_settings
from plugin.connections import bgp_session as sessions
from plugin.connections import hop_limits, peers, runtime
from plugin.connections.runtime import Runtime
from plugin.log import LOG, Recorder
from plugin.patching import wrap
from plugin.reactor import beginning, deferred_reload, listeners
from plugin.reactor.leftover_rules import clear, clear_nets
from tcpao.backend import Preference
from tcpao.backend_choice import choose
from tcpao.mkt import Mkt
from tcpao.second_net.client import SecondNet
from tcpao.userspace.process.hardening import forbid_dumps

File = TypeVar('File')
NAMES = AdapterNames(
    show='show ikev2',
    listen_setting='exabgp.tcp.bind or listen',
    ike_port_setting='exabgp.ikev2.port',
)
"""Names for hints."""


def start(reactor: Any, preference: Preference) -> Runtime:
    """Start backend and thread, and open the files.

    Raises GatekeeperError; then nothing is left behind, and files of another running daemon are
    unchanged.
    """
    # Its helper programs are not restricted, and it may go on as root.
    forbid_dumps()
    environment = getenv().ikev2
    if not environment.secondnet:
        clear_nets()
    with ExitStack() as begun:
        recorder = _opened('timeline', environment.timeline, partial(Recorder, environment.router))
        begun.callback(recorder.close)
        tables: list[KeyTable] = []

        def write_down(policy: SessionPolicy, opener: bool, mkt: Mkt) -> None:
            for table in tables:
                table.add(policy, opener, mkt)

        key_logs: list[IkeKeyLog] = []

        def log_ike_keys(line: str) -> None:
            for key_log in key_logs:
                key_log.write(line)

        gatekeeper = Gatekeeper(
            names=NAMES,
            router=recorder.router,
            ike_ports=environment.port,
            record=recorder.record,
            backend=choose(preference),
            net=SecondNet() if environment.secondnet else None,
            key_table=write_down if environment.keytable else None,
            ike_key_log=log_ike_keys if environment.ikekeylog else None,
        )
        gatekeeper.start()
        begun.callback(gatekeeper.stop)
        if environment.metrics:
            metrics = Metrics(gatekeeper.snapshot, gatekeeper.counted, time.time)
            recorder.observers.append(metrics.count)
            try:
                begun.callback(serve(parse_endpoint(environment.metrics), metrics))
            except MetricsError as error:
                raise GatekeeperError(f'exabgp.ikev2.metrics: {error}') from None
        if environment.keytable:
            tables.append(_opened('keytable', environment.keytable, KeyTable))
            log.critical(
                lambda: (
                    f'EVERY MASTER KEY of this daemon is being written to {environment.keytable} '
                    f'(exabgp.ikev2.keytable): its reader can forge every session'
                ),
                LOG,
            )
        if environment.ikekeylog:
            opener = partial(IkeKeyLog, replace=True)
            key_logs.append(_opened('ikekeylog', environment.ikekeylog, opener))
            log.critical(
                lambda: (
                    f'THE KEYS OF EVERY IKE SA of this daemon are being written to '
                    f'{environment.ikekeylog} (exabgp.ikev2.ikekeylog): its reader can read '
                    f'and forge IKE messages'
                ),
                LOG,
            )
        begun.pop_all()
    for said in (gatekeeper.backend, *gatekeeper.remarks):
        log.info(lambda said=said: f'TCP-AO backend: {said}', LOG)
    for warned in gatekeeper.warnings:
        log.warning(lambda warned=warned: f'TCP-AO backend: {warned}', LOG)
    return Runtime(
        reactor, gatekeeper, gatekeeper.connection_installer(), recorder, (*tables, *key_logs)
    )


def _opened(name: str, path: str, opener: Callable[[str], File]) -> File:
    """Return a file that the environment names. Raises GatekeeperError."""
    setting = f'exabgp.ikev2.{name} is {path!r}'
    if path and not os.path.isabs(path):
        raise GatekeeperError(f'{setting}: say an absolute path, the daemon runs in /')
    try:
        return opener(path)
    except OSError as error:
        raise GatekeeperError(f'{setting}, which cannot be opened: {error.strerror}') from None


starter: beginning.Starter = start
"""Tests replace this by a gatekeeper of their own."""

clearer: Callable[[], None] = clear
"""Tests replace this: they must not read the rules of their host."""


def _commit(reactor: Any, policies: list[SessionPolicy]) -> str | None:
    """Put policies in force before their neighbors; return why not."""
    running = runtime.of(reactor)
    guarded = running.guarded() if running is not None else set()
    try:
        for error in unreachable(policies):
            raise error
        with listeners.without_md5(reactor, policies):
            if running is not None:
                _check_backend(running, policies)
                running.configure(policies)
            elif policies:
                running = beginning.begin(reactor, starter, backend_of(policies), policies)
        _clear_once(reactor, running)
    except BusyError as error:
        raise Postponed(error.free) from None
    except (GatekeeperError, PolicyError, OSError) as error:
        return f'ikev2: {error}{_hint()}'
    _warn(policies)
    if running is not None and running.guarded() - guarded:
        listeners.forget_half_open(reactor)
    return listeners.begin(reactor)


def _warn(policies: list[SessionPolicy]) -> None:
    """Warn of settings that will not work; the gatekeeper warns of the end of a keychain."""
    doubts = doubts_about([one for one in policies if one.keychain is None], time.time())
    for warning in (*doubts, *vrf.unheard(policies), *unknown_settings(os.environ)):
        log.warning(lambda warning=warning: warning, LOG)
    obstacle = helper_obstacle()
    if obstacle is not None:
        log.critical(lambda: obstacle, LOG)


def _clear_once(reactor: Any, running: Runtime | None) -> None:
    """Remove leftover rules once, at a daemon's start; a packet process has done that itself."""
    packets = running is not None and running.gatekeeper.capabilities.backend != Preference.KERNEL
    if not packets and not getattr(reactor, 'ikev2_cleared', False):
        clearer()
    reactor.ikev2_cleared = True


def _check_backend(running: Runtime, policies: list[SessionPolicy]) -> None:
    """Check that the backend stays the same while a daemon runs. Raises PolicyError."""
    mine = running.gatekeeper.capabilities.backend
    for policy in policies:
        if policy.backend not in (Preference.AUTO, mine):
            raise PolicyError(
                f'neighbor {policy.neighbor} wants tcp-ao-backend {policy.backend}, and this '
                f'daemon runs {mine}: restart it'
            )


def _hint() -> str:
    if os.geteuid() == 0:
        return ''
    return f' (as user {os.geteuid()}: what needs privileges needs a restart of the daemon as root)'


class Postponed(BaseException):
    """A load that can't be done before `free` is done.

    Not an Exception, which upstream's loader would report as an error in the file.
    """

    def __init__(self, free: Future[Any]) -> None:
        super().__init__()
        self.free = free


def _reload(original: Any, self: Any) -> Any:
    if self.processes is None:
        # Not a daemon: `exabgp decode` loads a configuration with a reactor that never runs.
        return original(self)
    running = runtime.of(self)
    if running is not None:
        running.waits.begin()
    set_commit(self.configuration, lambda policies: _commit(self, policies))
    try:
        reloaded = original(self)
    except Postponed as postponed:
        deferred_reload.wait_for(self, postponed.free, Signal.RELOAD)
        return False
    if runtime.of(self) is None:
        beginning.abandon(self)
    if reloaded:
        listeners.listen_for_protected(self)
        peers.change_over(self)
        if runtime.of(self) is not None:
            peers.drop_removed(self)
        hop_limits.set_on_listeners(self)
    elif running is not None:
        running.gatekeeper.withdraw()
    return reloaded


def _remove(original: Any, self: Any) -> Any:
    """Remove a peer that does not exist any more under this name.

    If its address is protected from now on, as with multi-session, the old session's socket must
    not leave data that would be sent later.
    """
    running = runtime.of(self.reactor)
    if running is not None and protection_of(self.neighbor) is None:
        address = str(self.neighbor['peer-address'])
        if any(str(policy.remote) == address for policy in running.policies.values()):
            sessions.make_abrupt(self)
    return original(self)


def _restart(original: Any, self: Any) -> Any:
    """Drop the policies of upstream's load: its peers go on with their earlier neighbors."""
    running = runtime.of(self)
    if running is not None:
        running.waits.begin()
    set_commit(self.configuration, lambda policies: _commit(self, policies))
    try:
        original(self)
    except Postponed as postponed:
        deferred_reload.wait_for(self, postponed.free, Signal.RESTART)
        return
    if runtime.of(self) is not None:
        self.reload()


def _shutdown(original: Any, self: Any) -> Any:
    running = runtime.of(self)
    if running is not None:
        running.waits.begin()
        sessions.send_shutdown_notifications(running)
    result = original(self)
    if running is not None:
        running.stop()
    return result


def install() -> None:
    """Patch ExaBGP's reactor."""
    wrap(Reactor, 'reload', _reload)
    wrap(Reactor, 'restart', _restart)
    wrap(Peer, 'remove', _remove)
    wrap(Reactor, 'shutdown', _shutdown)
