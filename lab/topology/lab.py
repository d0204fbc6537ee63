"""A lab that is up: nodes, links, and a clean-up that always happens.

The order is containerlab's: main processes start, then the links appear, then exec runs. The next
start of a topology removes all that a killed run has left.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lab.topology import links
from lab.topology.model import Topology
from lab.topology.node import Node, NodeError, kill_all_in

LOCKS = Path('/run/exabgp-gatekeeper-lab')
# Seconds for a daemon to end after SIGTERM, before it is killed.
TERM_SECONDS = 3.0

LabError = NodeError


class Lab:
    """The nodes of a topology that is up, by name."""

    def __init__(
        self, topology: Topology, logs: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.topology = topology
        self.logs = logs
        self._environment = dict(environment or {})
        self.nodes: dict[str, Node] = {}

    def node(self, name: str) -> Node:
        """Return the node of that name. Raises KeyError if there is none."""
        return self.nodes[name]

    def namespace(self, name: str) -> str:
        """Return the name of a node's network namespace, which is containerlab's name of its
        container.
        """
        return f'clab-{self.topology.name}-{name}'

    def bring_up(self) -> None:
        """Make and start everything; on a failure remove everything again. Raises LabError."""
        if os.geteuid() != 0:
            raise LabError('network namespaces need root')
        self.remove()
        self.logs.mkdir(parents=True, exist_ok=True)
        try:
            for plan in self.topology.nodes:
                namespace = links.create_namespace(self.namespace(plan.name))
                self.nodes[plan.name] = Node(plan, namespace, self.logs, self._environment)
            for node in self.nodes.values():
                node.start()
            links.connect(self.topology.links, {name: self.namespace(name) for name in self.nodes})
            for node in self.nodes.values():
                node.execute()
        except BaseException:
            self.remove()
            raise

    def take_down(self) -> None:
        """Ask the main processes to end, then remove everything."""
        running = [
            node.process
            for node in self.nodes.values()
            if node.process is not None and node.process.poll() is None
        ]
        for process in running:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + TERM_SECONDS
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                break  # The next step kills the others too.
        self.remove()

    def remove(self) -> None:
        """Kill every process in the lab's namespaces and remove the namespaces, of any run."""
        names = [self.namespace(plan.name) for plan in self.topology.nodes]
        there = [name for name in names if links.namespace_exists(name)]
        kill_all_in([links.NAMESPACES / name for name in there])
        for name in there:
            links.remove_namespace(name)
        for node in self.nodes.values():
            node.reap()
        self.nodes.clear()


@contextmanager
def up(
    topology: Topology, logs: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Lab]:
    """Bring a lab up for the length of a with block; one log file per node in the folder `logs`.

    `environment` is for every node's processes; the file's settings for a node have precedence.
    Raises LabError when the lab can't come up, or is up already.
    """
    LOCKS.mkdir(parents=True, exist_ok=True)
    with (LOCKS / f'{topology.name}.lock').open('w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(f'lab {topology.name} is up in another process') from None
        lab = Lab(topology, logs, environment)
        lab.bring_up()
        try:
            yield lab
        finally:
            lab.take_down()
