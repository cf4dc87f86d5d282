"""Tests of the commands, as a person at a terminal and a script in a pipe meet them."""
