"""What every test stands on: the `--slow` switch, Ctrl-C as a terminal gives it, and processes at no cost."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from forking import ForkServer

TESTS = Path(__file__).parent
LONG_FIRST = ("suites", "chaos", "hostile", "clients", "e2e", "pipeline")
"""Folders of tests that take long, the longest first: what is left for the end keeps no worker alone."""


settings.register_profile("short", max_examples=40)


def pytest_configure(config: pytest.Config) -> None:
    """Draw fewer examples where nobody asked for the slow tests.

    And let what the tests start obey Ctrl-C, even where the run itself was started with it ignored (`nohup … &`).
    """
    if not config.getoption("--slow"):
        settings.load_profile("short")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=_turn)
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow: run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


def _turn(item: pytest.Item) -> int:
    folder = item.path.relative_to(TESTS).parts[0]
    return LONG_FIRST.index(folder) if folder in LONG_FIRST else len(LONG_FIRST)


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    """Start the process that the tests' commands and daemons are forked from."""
    with ForkServer() as server:
        yield server
