"""The bench: a kernel with TCP-AO on any machine, and topologies in network namespaces.

Not part of the product and not in the wheel.
"""
