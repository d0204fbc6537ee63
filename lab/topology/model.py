"""The content of a containerlab topology file, as far as the runner supports it.

Strict: a setting that the runner would handle differently from containerlab is refused, with the
file, the line and the key. So a file that loads here means the same there. Nothing is started.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import yaml

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from lab.topology.lab import Lab

# The names of containerlab's schema, and of Linux for interfaces (IFNAMSIZ less the NUL).
NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]*')
INTERFACE = re.compile(r'[^\s/:]{1,15}')
MANAGEMENT = 'eth0'

T = TypeVar('T')


class TopologyError(Exception):
    """A setting of a topology file is not supported; the message has file, line, key and cause."""


@dataclass(frozen=True)
class Bind:
    """A file or folder of the host (absolute) that is visible in a node."""

    source: Path
    target: str
    read_only: bool


@dataclass(frozen=True)
class NodePlan:
    """One node of the file; `command` is entrypoint and cmd together."""

    name: str
    binds: tuple[Bind, ...]
    environment: dict[str, str]
    execute: tuple[tuple[str, ...], ...]
    command: tuple[str, ...]


@dataclass(frozen=True)
class Endpoint:
    """One end of a link."""

    node: str
    interface: str


@dataclass(frozen=True)
class Topology:
    """A whole file: its nodes and the links between them."""

    name: str
    nodes: tuple[NodePlan, ...]
    links: tuple[tuple[Endpoint, Endpoint], ...]

    @staticmethod
    def load(path: str | Path) -> Topology:
        """Read a `*.clab.yml` file. Raises TopologyError."""
        return _Reader(Path(path)).topology()

    def up(
        self, logs: str | Path, environment: Mapping[str, str] | None = None
    ) -> AbstractContextManager[Lab]:
        """Bring the lab up; see lab.topology.lab.up."""
        # Reading a file must not import the modules that bring it up.
        from lab.topology.lab import up

        return up(self, Path(logs).absolute(), environment)


class _Reader:
    """A reader of the YAML node tree, which knows the lines, rather than plain dictionaries."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def topology(self) -> Topology:
        try:
            text = self._path.read_text()
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except OSError as error:
            raise TopologyError(f'{self._path}: {error.strerror}') from None
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 0
            raise TopologyError(f'{self._path}:{line}: not YAML: {error.problem}') from None
        if root is None:
            raise TopologyError(f'{self._path}: empty')
        top = self._mapping(root, '', required=('name', 'topology'))
        body = self._mapping(top['topology'], 'topology', required=('nodes',), optional=('links',))
        nodes = tuple(
            self._node(name, f'topology.nodes.{name}', value)
            for name, value in self._entries(body['nodes'], 'topology.nodes')
        )
        names = {node.name for node in nodes}
        links = body.get('links')
        return Topology(
            name=self._name(top['name'], 'name'),
            nodes=nodes,
            links=tuple(self._links(links, names)) if links else (),
        )

    def _node(self, name: str, key: str, value: yaml.Node) -> NodePlan:
        if not NAME.fullmatch(name):
            raise self._error(value, key, 'a node is named by letters, digits and . _ -')
        optional = ('image', 'binds', 'env', 'exec', 'cmd', 'entrypoint')
        settings = self._mapping(value, key, required=('kind',), optional=optional)
        kind = self._text(settings['kind'], f'{key}.kind')
        if kind != 'linux':
            raise self._error(settings['kind'], f'{key}.kind', f'only linux, not {kind}')
        command: list[str] = []
        for part in ('entrypoint', 'cmd'):
            if part in settings:
                command += self._words(settings[part], f'{key}.{part}')
        return NodePlan(
            name=name,
            binds=self._list(settings.get('binds'), f'{key}.binds', self._bind),
            environment={
                variable: self._text(word, f'{key}.env.{variable}')
                for variable, word in self._entries(settings.get('env'), f'{key}.env')
            },
            execute=self._list(settings.get('exec'), f'{key}.exec', self._words),
            command=tuple(command),
        )

    def _bind(self, node: yaml.Node, key: str) -> Bind:
        parts = self._text(node, key).split(':')
        if len(parts) not in (2, 3) or not parts[0] or not parts[1].startswith('/'):
            raise self._error(node, key, 'expected SOURCE:/TARGET or SOURCE:/TARGET:ro')
        mode = parts[2] if len(parts) == 3 else 'rw'
        if mode not in ('ro', 'rw'):
            raise self._error(node, key, f'only the options ro and rw, not {mode}')
        if parts[0].startswith('~'):
            raise self._error(node, key, '~ is not expanded; write the path')
        source = (self._path.parent / parts[0]).resolve()
        return Bind(source=source, target=parts[1], read_only=mode == 'ro')

    def _links(self, node: yaml.Node, names: set[str]) -> Iterator[tuple[Endpoint, Endpoint]]:
        taken: set[Endpoint] = set()
        for number, item in enumerate(self._items(node, 'topology.links')):
            key = f'topology.links[{number}]'
            ends = self._mapping(item, key, required=('endpoints',))['endpoints']
            pair = self._list(ends, f'{key}.endpoints', self._endpoint)
            if len(pair) != 2:
                raise self._error(ends, f'{key}.endpoints', 'a link has two ends')
            for end in pair:
                if end.node not in names:
                    raise self._error(ends, f'{key}.endpoints', f'no node {end.node} here')
                if end in taken:
                    where = f'{end.node}:{end.interface}'
                    raise self._error(ends, f'{key}.endpoints', f'{where} has a link already')
                taken.add(end)
            yield pair[0], pair[1]

    def _endpoint(self, node: yaml.Node, key: str) -> Endpoint:
        text = self._text(node, key)
        name, _, interface = text.partition(':')
        if not name or not INTERFACE.fullmatch(interface) or interface in ('.', '..', 'lo'):
            raise self._error(node, key, f'expected NODE:INTERFACE, not {text}')
        if interface == MANAGEMENT:
            raise self._error(node, key, "eth0 is containerlab's management interface")
        return Endpoint(name, interface)

    # The shapes of YAML

    def _mapping(
        self,
        node: yaml.Node,
        key: str,
        required: tuple[str, ...],
        optional: tuple[str, ...] = (),
    ) -> dict[str, yaml.Node]:
        found = {}
        for name, value in self._entries(node, key):
            where = f'{key}.{name}' if key else name
            if name not in required and name not in optional:
                known = ', '.join((*required, *optional))
                raise self._error(value, where, f'not supported here; supported: {known}')
            found[name] = value
        for name in required:
            if name not in found:
                raise self._error(node, key or name, f'{name} is missing')
        return found

    def _entries(self, node: yaml.Node | None, key: str) -> list[tuple[str, yaml.Node]]:
        if node is None:
            return []
        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, key, 'expected settings (key: value)')
        entries: dict[str, yaml.Node] = {}
        for name_node, value in node.value:
            name = self._text(name_node, key)
            if name in entries:
                raise self._error(name_node, f'{key}.{name}', 'is here twice')
            entries[name] = value
        return list(entries.items())

    def _items(self, node: yaml.Node, key: str) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise self._error(node, key, 'expected a list')
        return list(node.value)

    def _list(
        self, node: yaml.Node | None, key: str, read: Callable[[yaml.Node, str], T]
    ) -> tuple[T, ...]:
        if node is None:
            return ()
        items = enumerate(self._items(node, key))
        return tuple(read(item, f'{key}[{number}]') for number, item in items)

    def _words(self, node: yaml.Node, key: str) -> tuple[str, ...]:
        try:
            words = shlex.split(self._text(node, key))
        except ValueError as error:
            raise self._error(node, key, str(error)) from None
        if not words:
            raise self._error(node, key, 'expected a command')
        return tuple(words)

    def _text(self, node: yaml.Node, key: str) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self._error(node, key, 'expected a word or a number')
        text = str(node.value)
        # containerlab expands both before it reads the file; here they would stay unexpanded.
        if '${' in text or '__clab' in text:
            raise self._error(node, key, 'variables are not expanded')
        return text

    def _name(self, node: yaml.Node, key: str) -> str:
        text = self._text(node, key)
        if not NAME.fullmatch(text):
            raise self._error(node, key, 'a lab is named by letters, digits and . _ -')
        return text

    def _error(self, node: yaml.Node, key: str, message: str) -> TopologyError:
        line = node.start_mark.line + 1
        return TopologyError(f'{self._path}:{line}: {key}: {message}')
