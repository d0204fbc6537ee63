"""Floods of forged segments, for the tests: the frames, and the program that sends them.

It knows nothing of routers: it is given a link, and learns from a segment that it sees there.
"""
