"""Suites that try to break "nothing lost, nothing paid for twice", each with mutations that it must catch."""
