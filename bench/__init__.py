"""What it costs, in one run beside what it is compared with: `python -m bench`.

Figures are of the machine that it runs on, at that moment. `docs/performance.md` has some.
"""
