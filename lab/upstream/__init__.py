"""ExaBGP's own examples and suites, once by plain ExaBGP and once with our hooks in it.

For neighbors that are not protected both must do the same: `python -m lab.upstream` says where they
do not. Nothing of ExaBGP's tests is kept here; `sources` says where they come from.
"""
