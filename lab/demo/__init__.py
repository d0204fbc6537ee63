"""The demo: two routers, two sessions, negotiated keys, a rekey, refused impostors.

`stage` runs under the kernel that has TCP-AO and makes things happen; the rest runs beside it:
`timeline` shows what happens, `evidence` reads what was left behind, `checks` judges it.
"""
