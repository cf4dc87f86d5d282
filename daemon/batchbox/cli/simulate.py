"""`batchbox simulate`: the simulator alone, to try a configuration or a client of one's own with."""

import signal
from typing import TYPE_CHECKING

import click

from batchbox.errors import BatchboxError

if TYPE_CHECKING:
    from batchbox.simulator import SimulatorSettings


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port; without it, any free one.")
@click.option(
    "--speed", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Simulated per real second."
)
@click.option(
    "--processing-seconds",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="How long a batch takes.",
)
@click.option("--answer-tokens", type=click.IntRange(min=1), help="How long an answer is; without it, a short text.")
@click.option("--seed", type=int, default=0, show_default=True, help="Decides ids and the order of results.")
def simulate(port: int, speed: float, *, processing_seconds: float, answer_tokens: int | None, seed: int) -> None:
    """Serve a simulated Message Batches API on this machine.

    Its address is the only line on standard output. It takes any key, answers from templates, and costs nothing. All
    seconds are simulated ones. Ctrl-C ends it.
    """
    import anyio  # noqa: PLC0415 - --help does not need it

    from batchbox.simulator import SimulatorSettings  # noqa: PLC0415 - as above

    settings = SimulatorSettings(
        port=port, speed=speed, processing_seconds=processing_seconds, answer_tokens=answer_tokens, seed=seed
    )
    anyio.run(_serve, settings)


async def _serve(settings: "SimulatorSettings") -> None:
    """Serve until the first signal to stop."""
    import anyio  # noqa: PLC0415 - as above

    from batchbox.simulator import serve  # noqa: PLC0415 - as above

    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        try:
            async with serve(settings) as simulator:
                _tell(simulator.base_url)
                async for _ in signals:
                    return
        except OSError as error:
            raise BatchboxError(
                f"port {settings.port}: the simulator cannot listen there ({error.strerror}). Choose another --port, "
                "or leave it out to take any free one."
            ) from error


def _tell(base_url: str) -> None:
    click.echo(base_url)  # flushes, so that a script can read it at once
    click.echo(
        f'\nFor batchbox:           base_url = "{base_url}" under [api] in the configuration\n'
        f"For the API's own SDKs: ANTHROPIC_BASE_URL={base_url} ANTHROPIC_API_KEY=any\n"
        "Ctrl-C ends it; then everything it knew is gone.",
        err=True,
    )
