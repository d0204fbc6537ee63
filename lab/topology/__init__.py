"""Brings containerlab topology files up in network namespaces, without Docker."""

from lab.topology.lab import Lab, LabError
from lab.topology.model import Topology, TopologyError
from lab.topology.node import Node

__all__ = ['Lab', 'LabError', 'Node', 'Topology', 'TopologyError']
