"""One simulator whose clock stands still until it is pushed, and the SDK as its client."""

from collections.abc import AsyncIterator

import pytest
from anthropic import AsyncAnthropic

from batchbox.simulator import Simulator, SimulatorSettings, serve

from .bench import client_of


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with serve(SimulatorSettings(speed=0, processing_seconds=60)) as running:
        yield running


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[AsyncAnthropic]:
    async with client_of(simulator) as made:
        yield made
