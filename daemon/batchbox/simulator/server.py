"""The simulator as a server inside the running event loop: on loopback, without signal handlers, without logs.

uvicorn's own server object would take the process's signal handlers and wait for clients when it stops; its HTTP
protocol needs neither, so the protocol is served by the event loop directly.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from batchbox.simulator.app import build_app
from batchbox.simulator.batches import Batches
from batchbox.simulator.clock import Clock
from batchbox.simulator.control import Control
from batchbox.simulator.faults import FaultMenu
from batchbox.simulator.ledger import Ledger
from batchbox.simulator.settings import Account, SimulatorSettings
from batchbox.simulator.wire import STATE_PROTOCOL

LOOPBACK = "127.0.0.1"

KEEP_ALIVE_SECONDS = 300
"""Longer than clients keep a connection, so that none of them sends into one that is just being closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulator:
    """A simulator that is being served: where it is, and the handles that tests turn."""

    base_url: str
    clock: Clock
    faults: FaultMenu
    ledger: Ledger

    def create_foreign_batch(self, request_count: int, *, account: Account | None = None) -> str:
        """Let another program of the account's create a batch, and return its id."""
        return self.ledger.create_foreign_batch(request_count, account=account or Account())


@asynccontextmanager
async def serve(settings: SimulatorSettings) -> AsyncIterator[Simulator]:
    """Serve one simulator while the block runs. Leaving it drops every connection at once.

    Raises OSError when the port is taken.
    """
    clock = Clock(datetime.now(UTC), speed=settings.speed)
    batches = Batches(settings, clock)
    ledger = Ledger(batches, clock)
    faults = FaultMenu()
    control = Control(clock=clock, ledger=ledger, faults=faults)
    app = build_app(settings, batches=batches, ledger=ledger, faults=faults, control=control)
    async with _listening(app, settings.port) as port:
        yield Simulator(base_url=f"http://{LOOPBACK}:{port}", clock=clock, faults=faults, ledger=ledger)


@asynccontextmanager
async def _listening(app: Starlette, port: int) -> AsyncIterator[int]:
    """Serve the application and yield the port."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(lambda: _protocol(config, state), LOOPBACK, port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await _drop_connections(state)
        await server.wait_closed()


def _protocol(config: uvicorn.Config, state: ServerState) -> H11Protocol:
    connection: dict[str, Any] = {}  # Any: uvicorn's own type for what it copies into each request's state
    protocol = H11Protocol(config=config, server_state=state, app_state=connection)
    connection[STATE_PROTOCOL] = protocol
    return protocol


async def _drop_connections(state: ServerState) -> None:
    """End every connection, and wait until the calls on them have noticed."""
    for connection in [*state.connections]:
        connection.transport.abort()
    await asyncio.gather(*state.tasks)
