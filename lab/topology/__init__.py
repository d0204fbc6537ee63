"""A runner of containerlab topology files in network namespaces, without Docker.

Knows nothing of BGP, TCP-AO or keys.
"""

from lab.topology.lab import Lab, LabError
from lab.topology.model import Topology, TopologyError
from lab.topology.node import Node

__all__ = ['Lab', 'LabError', 'Node', 'Topology', 'TopologyError']
