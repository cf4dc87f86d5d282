"""The bench, as a fixture."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .bench import Bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """Yield a bench, and end its process after the test."""
    bench = Bench(tmp_path)
    yield bench
    await bench.stop()
