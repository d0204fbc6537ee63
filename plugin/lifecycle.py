"""When the gatekeeper starts, takes new policies, and stops, in the life of an ExaBGP daemon.

It starts in the first load of a configuration that has a gated neighbor: after the daemon has
forked and before it drops its privileges. A load that the gatekeeper refuses changes nothing.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Mapping
from typing import Any

from exabgp.environment import getenv
from exabgp.logger import log
from exabgp.reactor.loop import Reactor

from gatekeeper.policy import PolicyError, SessionPolicy
from gatekeeper.service import Gatekeeper, GatekeeperError
from plugin import runtime, sessions
from plugin.keytable import KeyTable
from plugin.patching import wrap
from plugin.recording import LOG, Recorder
from plugin.reloading import set_commit
from plugin.runtime import Runtime
from tcpao.backend import Preference, choose

Starter = Callable[[Any, Preference], Runtime]


def start(reactor: Any, preference: Preference) -> Runtime:
    """Open the files, bind UDP, start backend and thread. Raises GatekeeperError or OSError."""
    environment = getenv().ikev2
    recorder = Recorder(environment.router, environment.timeline)
    table = None
    if environment.keytable:
        table = KeyTable(environment.keytable)
        log.critical(
            lambda: (
                f'EVERY MASTER KEY of this daemon is being written to {environment.keytable} '
                f'(exabgp.ikev2.keytable): whoever reads it can forge every session'
            ),
            LOG,
        )
    gatekeeper = Gatekeeper(
        router=recorder.router,
        ike_ports=environment.port,
        record=recorder.record,
        backend=choose(preference),
        key_table=table.add if table is not None else None,
    )
    try:
        gatekeeper.start()
    except GatekeeperError:
        recorder.close()
        if table is not None:
            table.close()
        raise
    log.info(lambda: f'TCP-AO backend: {gatekeeper.backend}', LOG)
    return Runtime(reactor, gatekeeper, gatekeeper.connection_installer(), recorder, table)


starter: Starter = start
"""Tests put a gatekeeper of theirs here."""


def _begin(reactor: Any, policies: list[SessionPolicy]) -> Runtime:
    running = starter(reactor, _preference(policies))
    try:
        for listener in reactor.listener._sockets:
            # It listens already (exabgp.tcp.bind): what it has accepted fails its proof.
            running.guard(listener)
            running.listens(listener)
        running.configure(policies)
    except BaseException:
        running.stop()
        raise
    reactor.ikev2 = running
    atexit.register(running.stop)
    return running


def _commit(reactor: Any, policies: list[SessionPolicy]) -> str | None:
    """Put policies in force before their neighbors are; returns why not."""
    running = runtime.of(reactor)
    try:
        _check_reachable(policies)
        if running is None:
            if policies:
                _begin(reactor, policies)
            return None
        _check_backend(running, policies)
        running.configure(policies)
    except (GatekeeperError, PolicyError, OSError) as error:
        hint = '' if os.geteuid() == 0 else f' (as user {os.geteuid()}, privileges are dropped)'
        return f'ikev2: {error}{hint}'
    return None


def _preference(policies: list[SessionPolicy]) -> Preference:
    """What the neighbors want of the one backend. Raises PolicyError if they don't agree."""
    wanted = {policy.backend: policy for policy in policies if policy.backend != Preference.AUTO}
    if len(wanted) > 1:
        one, other = (policy.neighbor for policy in wanted.values())
        raise PolicyError(
            f'neighbors {one} and {other} want different tcp-ao-backends: a daemon has one'
        )
    return Preference(next(iter(wanted), Preference.AUTO))


def _check_backend(running: Runtime, policies: list[SessionPolicy]) -> None:
    """A backend is for the life of a daemon. Raises PolicyError."""
    mine = running.gatekeeper.capabilities.backend
    for policy in policies:
        if policy.backend not in (Preference.AUTO, mine):
            raise PolicyError(
                f'neighbor {policy.neighbor} wants tcp-ao-backend {policy.backend}, and this '
                f'daemon runs {mine}: restart it'
            )


def _check_reachable(policies: list[SessionPolicy]) -> None:
    """Only a daemon knows its environment, and with it what will listen. Raises PolicyError."""
    for policy in policies:
        if policy.connect_port is None and policy.listen_port is None:
            raise PolicyError(
                f'neighbor {policy.neighbor} is passive, and nothing listens for it: say listen '
                f'and a port in the neighbor, or set exabgp.tcp.bind to {policy.local}'
            )


def _reload(original: Any, self: Any) -> Any:
    running = runtime.of(self)
    before = list(running.policies.values()) if running is not None else []

    def commit(policies: list[SessionPolicy], neighbors: Mapping[str, Any]) -> str | None:
        return _commit(self, policies)

    set_commit(self.configuration, commit)
    reloaded = original(self)
    if not reloaded and running is not None and before != list(running.policies.values()):
        # Refused after our part of it had been accepted.
        running.configure(before)
    return reloaded


def _shutdown(original: Any, self: Any) -> Any:
    running = runtime.of(self)
    if running is not None:
        sessions.take_leave(running)
    result = original(self)
    if running is not None:
        running.stop()
    return result


def install() -> None:
    """Patch ExaBGP's reactor."""
    wrap(Reactor, 'reload', _reload)
    wrap(Reactor, 'shutdown', _shutdown)
