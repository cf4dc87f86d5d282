"""Tests of parsing in a process of its own."""
