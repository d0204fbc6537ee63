"""The demo: two routers, two sessions, negotiated keys, a rekey, refused impostors.

`stage` runs under the kernel that has TCP-AO and makes things happen; the rest runs in the first
process: `timeline` shows the events, `evidence` reads captures, keys and logs, `checks` judges
them.
"""
