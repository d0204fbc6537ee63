"""The plugin against real ExaBGP objects, real configuration files and real sockets.

What needs TCP-AO in the kernel is tested end to end elsewhere: here the gatekeeper and the keys
are doubles, everything else is real.
"""
