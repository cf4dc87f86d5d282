"""Benchmarks: `python -m bench NAME` in tests/. Figures for people; never collected as tests."""
