"""An empty machine, and a simulator that shares it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from batchbox.simulator import Simulator, SimulatorSettings, serve
from forking import ForkServer

from .bench import Home


@pytest.fixture
def home(tmp_path: Path, forks: ForkServer) -> Home:
    (tmp_path / "home").mkdir()
    return Home(path=tmp_path, forks=forks)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with serve(SimulatorSettings()) as running:
        yield running
