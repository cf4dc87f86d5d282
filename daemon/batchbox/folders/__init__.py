"""The shared root: one mount, worked on through descriptors, a group of operations at a time.

Every group opens the root, makes sure that it is the right one, works relative to that descriptor and closes it, so
that a share that vanished is never taken for an empty folder and nothing keeps it from being unmounted. Groups run
one after the other in a thread of their own: a hung server blocks them, and nothing else.
"""
