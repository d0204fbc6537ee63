"""What TCP-AO costs: CPU for each segment and bulk throughput, in one run, beside what it is
compared with. `python -m bench`; figures are of the machine that it runs on, at that moment.
"""
