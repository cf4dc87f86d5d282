"""Sites: one of its own for a test that starts and ends daemons, one with a running daemon for a module's others."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from batchbox.simulator import Simulator, SimulatorSettings, serve
from forking import ForkServer

from .site import Site, open_site

OpenSite = Callable[[Simulator | None], AbstractAsyncContextManager[Site]]

SETTINGS = SimulatorSettings(processing_seconds=0.1)


@pytest.fixture
def open_new_site(tmp_path: Path, forks: ForkServer) -> OpenSite:
    """Make a site for a simulator of the test's own."""
    return partial(open_site, tmp_path, forks)


@pytest.fixture
async def site(open_new_site: OpenSite) -> AsyncIterator[Site]:
    """Make a site where batches take a moment."""
    async with serve(SETTINGS) as simulator, open_new_site(simulator) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running_site(tmp_path_factory: pytest.TempPathFactory, forks: ForkServer) -> AsyncIterator[Site]:
    """Make a site whose daemon runs for as long as the module's tests do, and stops in good order after them."""
    folder = tmp_path_factory.mktemp("site")
    async with serve(SETTINGS) as simulator, open_site(folder, forks, simulator) as opened:
        lane = {"model": "claude-haiku-5-5", "max_tokens": 700, "output": {"extension": "txt"}}
        opened.configure(lanes={"summaries": lane}, inbox={"max_file_bytes": "1MB"})
        async with opened.daemon() as daemon:
            yield opened
            code = await daemon.stop()
        assert code == 0, daemon.log
        opened.check_everything_ended()


@pytest.fixture
def quiet_site(running_site: Site) -> Site:
    """Return the module's running site with no fault left over on the menu."""
    running_site.simulator.faults.clear()
    return running_site
