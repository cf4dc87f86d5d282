"""Everything at once: several daemons on one root, all kinds of writers, deaths, and a root that goes and comes back.

Nobody arranges who meets whom; the judge, the simulator's ledger and the folders, asks at the end whether every file
was sent exactly once and whole. Run it with `python -m chaos`; each commit runs a short one.
"""
