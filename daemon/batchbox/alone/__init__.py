"""Parses one file in a process of its own, with bounds on its memory and its time.

For files whose reading has ended the daemon before: whatever such a file does to the parser, it does it to the child.
`parent` is the daemon's side, `child` the program that it starts, `messages` what they say to each other.
"""
