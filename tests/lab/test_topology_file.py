"""The runner's reading of a containerlab topology file, and its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from lab.topology import Topology, TopologyError

ROOT = Path(__file__).resolve().parents[2]
# containerlab v0.79, schemas/clab.schema.json
SCHEMA = Path(__file__).with_name('containerlab-topology.schema.json')
OURS = sorted((ROOT / 'configs').glob('*/*.clab.yml'))

GOOD = """\
name: pair
topology:
  nodes:
    a:
      kind: linux
      image: any
      binds:
        - note:/etc/note:ro
      env:
        WORD: yes
      exec:
        - ip address add 10.0.0.1/24 dev eth1
      entrypoint: /bin/sh -c
      cmd: '"exec sleep infinity"'
    b:
      kind: linux
  links:
    - endpoints: ["a:eth1", "b:eth1"]
"""


def load(folder: Path, text: str) -> Topology:
    path = folder / 'pair.clab.yml'
    path.write_text(text)
    return Topology.load(path)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(TopologyError) as caught:
        load(folder, text)
    return str(caught.value).removeprefix(f'{folder}/')


def test_node_is_read_as_it_is_written(tmp_path: Path) -> None:
    node = load(tmp_path, GOOD).nodes[0]
    assert node.name == 'a'
    assert node.command == ('/bin/sh', '-c', 'exec sleep infinity')
    assert node.execute == (('ip', 'address', 'add', '10.0.0.1/24', 'dev', 'eth1'),)
    assert node.environment == {'WORD': 'yes'}


def test_bind_is_relative_to_the_file(tmp_path: Path) -> None:
    bind = load(tmp_path, GOOD).nodes[0].binds[0]
    assert (bind.source, bind.target, bind.read_only) == (tmp_path / 'note', '/etc/note', True)


def test_link_has_two_named_ends(tmp_path: Path) -> None:
    ((first, second),) = load(tmp_path, GOOD).links
    assert (first.node, first.interface) == ('a', 'eth1')
    assert (second.node, second.interface) == ('b', 'eth1')


@pytest.mark.parametrize(
    ('old', 'new', 'complaint'),
    [
        ('name: pair\n', '', 'pair.clab.yml:1: name: name is missing'),
        ('name: pair', 'name: pair\nmgmt: {}', ':2: mgmt: not supported here'),
        ('name: pair', 'name: a b', ':1: name: a lab is named by'),
        ('  nodes:', '  kinds: {}\n  nodes:', ':3: topology.kinds: not supported here'),
        ('  nodes:', '  defaults: {}\n  nodes:', ':3: topology.defaults: not supported'),
        ('kind: linux\n      image', 'kind: srl\n      image', ':5: topology.nodes.a.kind: only'),
        ('      kind: linux\n      image', '      image', 'topology.nodes.a: kind is missing'),
        ('image: any', 'ports: [80:80]', ':6: topology.nodes.a.ports: not supported here'),
        ('image: any', 'image: any\n      image: two', ':7: topology.nodes.a.image: is here twice'),
        ('note:/etc/note:ro', '/etc/note', ':8: topology.nodes.a.binds[0]: expected SOURCE'),
        ('note:/etc/note:ro', 'note:/etc/note:z', ':8: topology.nodes.a.binds[0]: only the'),
        ('note:/etc/note:ro', '~/note:/etc/note', 'binds[0]: ~ is not expanded'),
        ('note:/etc/note:ro', '${HOME}/n:/etc/n', 'binds[0]: variables are not expanded'),
        ('note:/etc/note:ro', '__clabDir__/n:/n', 'binds[0]: variables are not expanded'),
        ('WORD: yes', 'WORD: [yes]', ':10: topology.nodes.a.env.WORD: expected a word'),
        ('\'"exec sleep infinity"\'', '"\'open"', ':14: topology.nodes.a.cmd: No closing'),
        ('"a:eth1", "b:eth1"', '"a:eth1"', ':18: topology.links[0].endpoints: a link has two'),
        ('"b:eth1"', '"c:eth1"', ':18: topology.links[0].endpoints: no node c here'),
        ('"b:eth1"', '"a:eth1"', 'a:eth1 has a link already'),
        ('"b:eth1"', '"b:eth0"', "eth0 is containerlab's management interface"),
        ('"b:eth1"', '"b:sixteen-letters-"', 'expected NODE:INTERFACE'),
        ('    - endpoints', '    - type: veth\n      endpoints', 'links[0].type: not supported'),
        ('"b:eth1"]', '"b:eth1"', ':19: not YAML'),
    ],
)
def test_unsupported_key_is_refused_with_line_and_key(
    tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    assert old in GOOD
    assert complaint in refusal(tmp_path, GOOD.replace(old, new, 1))


def test_empty_file_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, '') == 'pair.clab.yml: empty'


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match='No such file'):
        Topology.load(tmp_path / 'none.clab.yml')


def test_our_topologies_are_found() -> None:
    assert OURS


@pytest.mark.parametrize('path', OURS, ids=lambda path: path.name)
def test_our_topologies_are_valid_for_containerlab(path: Path) -> None:
    # Python's re doesn't know Unicode categories: letters and digits are \w.
    schema = json.loads(SCHEMA.read_text().replace(r'\\p{N}\\p{L}', r'\\w'))
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(path.read_text()), schema)


@pytest.mark.parametrize('path', OURS, ids=lambda path: path.name)
def test_our_topologies_are_read_by_the_runner(path: Path) -> None:
    assert Topology.load(path).nodes
