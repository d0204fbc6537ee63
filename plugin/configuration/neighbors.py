"""Gated neighbors while ExaBGP parses them: inheritance, checks, one neighbor per session.

Upstream's faults are corrected here for these neighbors: a template's value overrode the neighbor's
own, and multi-session's copies were never narrowed to their family (so they were one session, under
one name and one uid, with routes of the others). Neighbors without an `ikev2` section are left
exactly as in upstream, multi-session included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exabgp.bgp.neighbor import Neighbor, NeighborTemplate
from exabgp.configuration.neighbor import ParseNeighbor

from gatekeeper.configuration.directive_table import TABLE
from gatekeeper.configuration.key_files import KeyFiles
from gatekeeper.configuration.location import ConfigurationError
from gatekeeper.configuration.session_settings import SessionSettings
from gatekeeper.configuration.statements import Family, SectionStatements, Statement
from gatekeeper.policy.addresses import address_of
from plugin.configuration.environment import daemon_user
from plugin.configuration.ikev2_section import DRAFT, FAMILIES, SCOPE, fault
from plugin.configuration.neighbor_protection import Facts, Protection, protect
from plugin.patching import add, wrap

files = KeyFiles(daemon_user)
"""One for the process: later parsers (a reload) find what the first one could still read."""

_FAMILY_OF = {pair: family for family, pair in FAMILIES.items()}


def protection_of(neighbor: Any) -> Protection | None:
    """Return the neighbor's `ikev2` section; None if it isn't gated."""
    found: Protection | None = neighbor[SCOPE]
    return found


def families_of(neighbor: Any) -> tuple[Family, ...]:
    """Return the families of this neighbor's session, with ExaBGP's names and in its order."""
    return tuple(_FAMILY_OF[tuple(pair)] for pair in neighbor.families())


def _post_get_scope(original: Any, self: Any) -> Any:
    """Merge the section with inherited ones, word by word; ExaBGP merges the rest without it."""
    drafts: list[SectionStatements] = []
    hidden = []
    for name in self.scope.get('inherit', []):
        template = self.scope.template('neighbor', name)
        if SCOPE in template:
            section = template.pop(SCOPE)
            hidden.append((template, section))
            drafts.append(section[DRAFT])
    own = self.scope.pop(SCOPE, None)
    if own is not None:
        drafts.append(own[DRAFT])
    scalars = _take_scalars(self.scope.get()) if drafts else {}
    try:
        local = original(self)
    finally:
        for template, section in hidden:
            template[SCOPE] = section
    _put_back(local, scalars)
    if drafts:
        _settle_mask(local['peer-address'])
        draft = drafts[0]
        for later in drafts[1:]:
            draft = later.over(draft)
        if self.tokeniser.end != '}':
            # ExaBGP accepts the end of the file as the end of every block.
            cause = 'the neighbor with this section does not end'
            raise ConfigurationError(
                draft.place, SCOPE, cause, 'as many closing braces as opening ones'
            )
        local[SCOPE] = protect(draft, _facts(self, local), files)
    return local


def _take_scalars(scope: dict[str, Any]) -> dict[str, Any]:
    """Take a neighbor's own values out while its templates are copied over them.

    Lists stay, since upstream adds to them.
    """
    taken: dict[str, Any] = {}
    for name, value in list(scope.items()):
        if isinstance(value, dict):
            taken[name] = _take_scalars(value)
        elif not isinstance(value, list):
            taken[name] = scope.pop(name)
    return taken


def _put_back(scope: dict[str, Any], taken: Mapping[str, Any]) -> None:
    """Put a neighbor's own values over those of its templates."""
    for name, value in taken.items():
        if isinstance(value, dict):
            _put_back(scope[name], value)
        else:
            scope[name] = value


def _settle_mask(peer: Any) -> None:
    """Correct the size of a netmask.

    Netmasks of one length are one object in ExaBGP, IPv4 or IPv6: a route for an IPv6 /32 makes
    ranges of 2**96 addresses of all IPv4 peers parsed before it.
    """
    peer.mask.maximum = 32 if peer.ipv4() else 128


def _is_link_local(address: Any) -> bool:
    return address is not None and address.ipv6() and address_of(address.top()).is_link_local


def _facts(parser: Any, local: dict[str, Any]) -> Facts:
    named = local.get('family', {})
    ends = (local['peer-address'], local.get('local-address'))
    explicit = [_FAMILY_OF[pair] for family in named.values() for pair in family if pair]
    return Facts(
        families=[family for pair, family in _FAMILY_OF.items() if family in explicit],
        multi_session=bool(local.get('capability', {}).get('multi-session')),
        local_address=local.get('local-address') is not None,
        md5=getattr(local.get('md5-password') or None, 'place', None),
        md5_ip=local.get('md5-ip') not in (None, local.get('local-address')),
        without_zone=not local.get('source-interface') and any(map(_is_link_local, ends)),
        range=local['peer-address'].mask.size() > 1,
    )


def _post(original: Any, self: Any) -> Any:
    try:
        return original(self)
    except ConfigurationError as error:
        return fault(self, error)


def _init_neighbor(original: Any, self: Any, neighbor: Any, local: Any) -> Any:
    protection = protection_of(neighbor)
    if (
        protection is not None
        and neighbor['capability']['multi-session']
        and len(neighbor.families()) > 1
    ):
        _narrow(neighbor)
    before = self.neighbors.get(neighbor.name())
    # Upstream's own check misses blocks with different listen ports: the later one would take the
    # earlier one's place, plain or not.
    if before is not None and protection is None:
        protection = protection_of(before)
    if before is not None and protection is not None:
        raise ConfigurationError(
            protection.place,
            'ikev2',
            f'another neighbor block has the session {session_name(neighbor)} with '
            f'{neighbor["peer-address"]} already',
            'each session once',
        )
    return original(self, neighbor, local)


def _narrow(neighbor: Any) -> None:
    """Make ExaBGP's copy for one family a neighbor of that family only."""
    (family,) = neighbor.rib.outgoing.families
    # Its RIB is cached under the name that all copies still share.
    neighbor.rib.uncache()
    neighbor._families = [family]
    neighbor._addpath = [pair for pair in neighbor.addpaths() if pair == family]
    neighbor._nexthop = [known for known in neighbor.nexthops() if tuple(known[:2]) == family]
    neighbor.changes = [
        change for change in neighbor.changes if change.nlri.family().afi_safi() == family
    ]
    neighbor.uid = str(Neighbor._GLOBAL['uid'])
    Neighbor._GLOBAL['uid'] += 1
    neighbor.make_rib()


def session_name(neighbor: Any) -> str:
    """Return the operators' name of the session: `ipv4 unicast`; several families with commas."""
    return ', '.join(' '.join(family) for family in families_of(neighbor))


def _eq(original: Any, self: Any, other: Any) -> Any:
    """Return False if a reload must restart a session: it becomes gated or plain, or its pins
    change.

    The gatekeeper judges all other changes of the section: it ends what the new policy doesn't
    permit, and lets the rest continue.
    """
    ours, theirs = protection_of(self), protection_of(other)
    if ours is None or theirs is None:
        return ours is theirs and original(self, other)
    return _pins(self) == _pins(other) and original(self, other)


def settings_of(neighbor: Any) -> SessionSettings:
    """Return the settings of a gated neighbor's session."""
    protection = protection_of(neighbor)
    assert protection is not None
    return protection.settings(families_of(neighbor))


def _pins(neighbor: Any) -> tuple[int | None, int | None]:
    """Return the settings that can't change while a session is up."""
    settings = settings_of(neighbor)
    return settings.source_port, settings.peer_port


def _index(original: Any, self: Any) -> Any:
    """Return an index with the families: blocks for one peer that listen may differ by family."""
    index = original(self)
    if self[SCOPE] is not None and self['listen'] and self['capability']['multi-session']:
        return f'{index} family {session_name(self)}'
    return index


def _configuration(original: Any, neighbor: Any, *arguments: Any, **named: Any) -> Any:
    """Add the section, which names files only, to the text of a neighbor.

    For `show neighbor configuration` and `validate -n`.
    """
    text = original(neighbor, *arguments, **named)
    protection = protection_of(neighbor)
    if protection is None:
        return text
    family_block = '\n  family {'
    before, found, after = text.partition(family_block)
    families = families_of(neighbor)
    return before + '\n' + _printed(protection.draft, families, '  ') + found + after


def _printed(draft: SectionStatements, families: tuple[Family, ...], indent: str) -> str:
    lines = [f'{indent}ikev2 {{']
    lines += _directives(draft, indent * 2)
    for family in families:
        session = draft.sessions.get(family)
        if session is None:
            continue
        lines.append(f'{indent * 2}session {" ".join(family)} {{')
        lines += _directives(session, indent * 3)
        lines.append(f'{indent * 2}}}')
    lines.append(f'{indent}}}')
    return '\n'.join(lines)


def _directives(draft: SectionStatements, indent: str) -> list[str]:
    return [f'{indent}{name} {_words(name, entry)};' for name, entry in draft.directives.items()]


def _words(name: str, directive: Statement) -> str:
    value = directive.value
    if name in ('local-id', 'peer-id'):
        kind, _, text = str(value).partition(' ')
        return f'{kind} "{text}"'
    if TABLE[name].quoted:
        texts = value if isinstance(value, tuple) else (value,)
        quoted = ' '.join(f'"{text}"' for text in texts)
        return f'[ {quoted} ]' if len(texts) > 1 else quoted
    if isinstance(value, tuple):
        return f'[ {" ".join(value)} ]'
    return str(value)


def install() -> None:
    """Patch ExaBGP's neighbors."""
    add(Neighbor.defaults, SCOPE, None)
    wrap(ParseNeighbor, '_post_get_scope', _post_get_scope)
    wrap(ParseNeighbor, 'post', _post)
    wrap(ParseNeighbor, '_init_neighbor', _init_neighbor)
    wrap(Neighbor, '__eq__', _eq)
    wrap(Neighbor, 'index', _index)
    wrap(NeighborTemplate, 'configuration', _configuration)
