"""Benchmarks, each compared with its baseline in the same run: `python -m bench`.

Figures are of the machine that it runs on, at that moment. `docs/performance.md` has some.
"""
