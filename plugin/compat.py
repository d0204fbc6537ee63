"""The parts of ExaBGP that we depend on: its version, and every name and signature that we wrap or
call.

Checked at start: an ExaBGP that differs is refused, rather than patched by guess.
"""

from __future__ import annotations

import importlib
import inspect
import re

LOWEST = (5, 0, 13)
"""A security release; in older ones API streams can be injected into."""
BELOW = (6,)

_C = 'exabgp.configuration.'
_R = 'exabgp.reactor.'

# (module, name, names of parameters, None for what isn't a function)
LEANED_ON: tuple[tuple[str, str, str | None], ...] = (
    (_C + 'core.tokeniser', 'tokens', 'stream'),
    (_C + 'core.format', 'unescape', None),
    (_C + 'core.tokeniser', 'Tokeniser._tokenise', 'self iterator'),
    (_C + 'core.tokeniser', 'Tokeniser.__call__', 'self'),
    (_C + 'core', 'Section.parse', 'self name command'),
    (_C + 'configuration', 'Configuration.__init__', 'self configurations text'),
    (_C + 'configuration', 'Configuration.parse_section', 'self name'),
    (_C + 'configuration', 'Configuration._reload', 'self'),
    (_C + 'configuration', 'Configuration._cleanup', 'self'),
    (_C + 'configuration', '_Configuration.inject_change', 'self peers change'),
    (_C + 'configuration', '_Configuration.inject_eor', 'self peers family'),
    (_C + 'configuration', '_Configuration.inject_operational', 'self peers operational'),
    (_C + 'configuration', '_Configuration.inject_refresh', 'self peers refreshes'),
    (_C + 'neighbor', 'ParseNeighbor._post_get_scope', 'self'),
    (_C + 'neighbor', 'ParseNeighbor.post', 'self'),
    (_C + 'neighbor', 'ParseNeighbor._init_neighbor', 'self neighbor local'),
    (_C + 'neighbor', 'ParseNeighbor.known', None),
    (_C + 'neighbor.family', 'ParseFamily.convert', None),
    ('exabgp.bgp.neighbor', 'Neighbor.defaults', None),
    ('exabgp.bgp.neighbor', 'Neighbor._GLOBAL', None),
    ('exabgp.bgp.neighbor', 'Neighbor.__eq__', 'self other'),
    ('exabgp.bgp.neighbor', 'Neighbor.index', 'self'),
    ('exabgp.bgp.neighbor', 'Neighbor.name', 'self'),
    ('exabgp.bgp.neighbor', 'Neighbor.make_rib', 'self'),
    ('exabgp.bgp.neighbor', 'NeighborTemplate.configuration', 'neighbor with_changes'),
    ('exabgp.protocol.ip', 'IPRange', None),
    ('exabgp.rib', 'RIB._cache', None),
    (_R + 'peer', 'Protocol', None),
    (_R + 'peer', 'ReceiveTimer', 'session holdtime code subcode message'),
    (_R + 'peer', 'Peer.__init__', 'self neighbor reactor'),
    (_R + 'peer', 'Peer._reset', 'self message error'),
    (_R + 'peer', 'Peer.remove', 'self'),
    (_R + 'peer', 'Peer.reestablish', 'self restart_neighbor'),
    (_R + 'peer', 'Peer.teardown', 'self code restart'),
    (_R + 'peer', 'Peer.handle_connection', 'self connection'),
    (_R + 'protocol', 'Protocol.__init__', 'self peer'),
    (_R + 'protocol', 'Protocol.close', 'self reason'),
    (_R + 'protocol', 'Protocol.connect', 'self'),
    (_R + 'protocol', 'Protocol.new_open', 'self'),
    (_R + 'protocol', 'Protocol.new_notification', 'self notification'),
    (_R + 'protocol', 'Protocol.validate_open', 'self'),
    (_R + 'network.tcp', 'md5', 'io ip port md5 md5_base64'),
    (_R + 'network.outgoing', 'bind', 'io ip afi'),
    (_R + 'network.outgoing', 'connect', 'io ip port afi md5'),
    (_R + 'network.outgoing', 'Outgoing._setup', 'self'),
    (_R + 'network.outgoing', 'Outgoing.establish', 'self'),
    (_R + 'network.incoming', 'Incoming.__init__', 'self afi peer local io'),
    (_R + 'network.incoming', 'Incoming.notification', 'self code subcode message'),
    (_R + 'network.connection', 'Connection.close', 'self'),
    (_R + 'network.connection', 'Connection.success', 'self'),
    (_R + 'network.connection', 'Connection._reader', 'self number'),
    (_R + 'network.connection', 'Connection.writer', 'self data'),
    (_R + 'listener', 'Listener._new_socket', 'self ip'),
    (_R + 'listener', 'Listener.incoming', 'self'),
    (_R + 'loop', 'Reactor._wait_for_io', 'self sleeptime'),
    (_R + 'loop', 'Reactor._pending_adjribout', 'self'),
    (_R + 'loop', 'Reactor.established_peers', 'self'),
    (_R + 'loop', 'Reactor.handle_connection', 'self peer_name connection'),
    (_R + 'loop', 'Reactor.neighbor', 'self peer_name'),
    (_R + 'loop', 'Reactor.peers', 'self service'),
    (_R + 'loop', 'Reactor.reload', 'self'),
    (_R + 'loop', 'Reactor.restart', 'self'),
    (_R + 'loop', 'Reactor.shutdown', 'self'),
    (_R + 'delay', 'Delay.backoff', 'self'),
    (_R + 'delay', 'Delay.increase', 'self'),
    (_R + 'delay', 'Delay.reset', 'self'),
    (_R + 'keepalive', 'SendTimer', 'session holdtime'),
    ('exabgp.bgp.timer', 'ReceiveTimer.check_ka_timer', 'self message ignore'),
    ('exabgp.bgp.timer', 'SendTimer.need_ka', 'self'),
    (_R + 'interrupt', 'Signal.rearm', 'self'),
    (_R + 'api.command.command', 'Command.callback', None),
    (_R + 'api.command.command', 'Command.functions', None),
    ('exabgp.environment.environment', 'Env.setup', 'configuration'),
    ('exabgp.application.server', 'cmdline', 'cmdarg'),
    ('exabgp.application.server', 'getconf', None),
    ('exabgp.application.validate', 'Configuration', None),
)


class IncompatibleError(Exception):
    """This version of ExaBGP is not supported; the message names the difference."""


def check() -> None:
    """Check version, names and signatures. Raises IncompatibleError."""
    # Imported after the launcher has set its environment. `exabgp.version.version` is the
    # environment's text (exabgp_version), whatever is installed.
    from exabgp.version import release

    check_version(release)
    for module, name, parameters in LEANED_ON:
        _check_name(module, name, parameters)


def check_version(version: str) -> None:
    """Check a version. Raises IncompatibleError if it is out of range or unreadable."""
    numbers = tuple(int(number) for number in re.findall(r'[0-9]+', version.split('-')[0])[:3])
    if not numbers or not numbers >= LOWEST or numbers >= BELOW:
        raise IncompatibleError(
            f'exabgp {version} is installed; this plugin is for 5.0.13 and later, below 6: '
            f"pip install 'exabgp>=5.0.13,<6'"
        )


def _check_name(module: str, name: str, parameters: str | None) -> None:
    try:
        found: object = importlib.import_module(module)
        for part in name.split('.'):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        raise IncompatibleError(
            f'this exabgp has no {module}.{name}: it is newer than this plugin, or changed'
        ) from None
    if parameters is None:
        return
    has = ' '.join(inspect.signature(found).parameters) if callable(found) else ''
    if has != parameters:
        raise IncompatibleError(
            f'in this exabgp {module}.{name} takes ({has}) instead of ({parameters}): it is newer '
            f'than this plugin, or changed'
        )
