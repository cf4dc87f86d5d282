"""A share with a running daemon for each module, a lane of it for each test, and servers where they are asked for."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from forking import ForkServer

from .openssh import OpenSsh, openssh_in
from .samba import Samba, samba_on
from .share import QUIET_SECONDS, SETTINGS, Lane, Share, open_share


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def share(tmp_path_factory: pytest.TempPathFactory, forks: ForkServer) -> AsyncIterator[Share]:
    """Run a daemon on a root for as long as the module's tests drop into it."""
    async with open_share(tmp_path_factory.mktemp("share"), forks) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def impatient(tmp_path_factory: pytest.TempPathFactory, forks: ForkServer) -> AsyncIterator[Share]:
    """Run a daemon that soon gives up what is no request and never will be: what stays there is ignored."""
    inbox = {**SETTINGS["inbox"], "incomplete_after": QUIET_SECONDS}
    async with open_share(tmp_path_factory.mktemp("impatient"), forks, inbox=inbox) as opened:
        yield opened


@pytest.fixture
def lane(share: Share, request: pytest.FixtureRequest) -> Lane:
    """Make a lane for one test."""
    name: str = request.node.name
    return share.lane(name.removeprefix("test_"))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def samba(share: Share, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Samba]:
    """Run a Samba server on the inbox."""
    async with samba_on(share.site.root / "inbox", own=tmp_path_factory.mktemp("samba") / "own") as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def openssh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OpenSsh]:
    """Run an OpenSSH server."""
    async with openssh_in(tmp_path_factory.mktemp("ssh") / "own") as server:
        yield server
