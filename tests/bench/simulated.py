"""Serve the simulator until killed; print its base_url first. Called as: simulated.py PROCESSING_SECONDS [TOKENS]."""

import asyncio
import sys

from batchbox.simulator import SimulatorSettings, serve


async def _main(processing_seconds: float, answer_tokens: int | None) -> None:
    settings = SimulatorSettings(processing_seconds=processing_seconds, answer_tokens=answer_tokens, keep_params=False)
    async with serve(settings) as simulator:
        print(simulator.base_url, flush=True)  # noqa: T201 - what it says is its purpose
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(float(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] and sys.argv[2] else None))
