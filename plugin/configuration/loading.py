"""Configuration loads as a whole: checks among neighbors, our errors, and no partial effect.

A load that is refused changes nothing. Upstream does not clean its parser after a refusal (the next
good configuration then fails as a duplicate), starts the helper processes of the refused one, and
has its routes in the RIBs; all are corrected here, for gated and other neighbors alike. A running
gatekeeper gets the new policies last, when nothing else can refuse them, and before the first new
neighbor becomes active.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable
from pathlib import Path
from traceback import extract_tb
from typing import Any

from exabgp.configuration.configuration import Configuration
from exabgp.configuration.core.error import Error
from exabgp.environment import getenv

from gatekeeper.configuration.location import ConfigurationError
from gatekeeper.errors import PolicyError
from gatekeeper.policy.sessions import SessionPolicy
from plugin.configuration import block_checks as blocks
from plugin.configuration.ikev2_section import misplaced
from plugin.configuration.line_numbers import place_of
from plugin.configuration.rib_backup import RibBackup
from plugin.configuration.session_policies import policies_of
from plugin.patching import wrap

Commit = Callable[[list[SessionPolicy]], str | None]
"""Puts new policies in force, before the neighbors; returns why not."""


def set_commit(configuration: Any, commit: Commit) -> None:
    """Have this configuration's next loads approved by `commit`."""
    configuration.ikev2_commit = commit


def _parse_section(original: Any, self: Any, name: str) -> Any:
    parsed = original(self, name)
    if parsed is not True or name != 'root':
        return parsed
    try:
        blocks.check_end(self)
        blocks.check_inheritance(self)
        policies_of(self.neighbor.neighbors, self.ikev2_chains)
    except (ConfigurationError, PolicyError) as error:
        self.error.ikev2 = str(error)
        return self.error.set(str(error))
    return True


def _reload(original: Any, self: Any) -> Any:
    before = self.processes, self.neighbors
    contents = RibBackup()
    self.error.ikev2 = ''
    blocks.begin(self.error)
    self.ikev2_chains.clear()
    loaded = False
    try:
        cause = _load(original, self)
        loaded = cause is None
    finally:
        if not loaded:
            self.processes, self.neighbors = before
            contents.put_back()
            # As upstream does after a good load.
            self._cleanup()
    return True if loaded else self.error.set(cause)


def _load(original: Any, configuration: Any) -> str | None:
    """Load; return why it is refused, or None."""
    file = '' if configuration._text else configuration._configurations[0]
    try:
        if original(configuration) is not True:
            return configuration.error.ikev2 or _upstreams(configuration, file)
        commit = getattr(configuration, 'ikev2_commit', None)
        policies = policies_of(configuration.neighbors, configuration.ikev2_chains)
        return commit(policies) if commit is not None else None
    except ConfigurationError as error:
        return str(error)
    except Exception as error:
        if getenv().debug.configuration:
            raise
        return f'{place_of(configuration.tokeniser)}: {_worded(error)}'


def _worded(error: Exception) -> str:
    """Return a sentence for an error that upstream's parser, or a bug of ours, raises."""
    if isinstance(error, Error) and str(error):
        return str(error)
    if isinstance(error, ValueError | OSError):
        # KeyError is none of these. Upstream's parser has not checked a value that it uses.
        return f'this statement, or one above it, has a value that cannot be: {error}'
    where = extract_tb(error.__traceback__)[-1]
    return (
        f'the configuration cannot be understood from here on; please report this, with the lines '
        f'above ({error!r} in {where.name}, {Path(where.filename).name} line {where.lineno})'
    )


def _upstreams(configuration: Any, file: str) -> str:
    """Return ExaBGP's own error, which names no file."""
    cause = str(configuration.error) or 'cannot be read'
    if file and _has_byte_order_mark(file):
        return (
            f'{file} line 1: the file begins with a byte order mark (BOM), which editors do not '
            f'show: save it as UTF-8 without BOM'
        )
    if not cause.startswith('\nsyntax error'):
        return f'{file}: {cause.strip()}' if file else cause
    place = place_of(configuration.tokeniser)
    error = misplaced(configuration.tokeniser.line, place, configuration.scope.location(), cause)
    if error is not None:
        return str(error)
    return cause.replace(f'\nline {place.line}:', f'\n{place}:', 1)


def _has_byte_order_mark(file: str) -> bool:
    try:
        with Path(file).open('rb') as opened:
            return opened.read(len(BOM_UTF8)) == BOM_UTF8
    except OSError:
        return False


def install() -> None:
    """Patch ExaBGP's configuration."""
    wrap(Configuration, 'parse_section', _parse_section)
    wrap(Configuration, '_reload', _reload)
