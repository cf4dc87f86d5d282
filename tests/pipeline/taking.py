"""What tests of sending do over and over: ask for something, have it taken in, send it, and look at the result."""

import json

from .bench import Bench


def request(text: str, **params: object) -> dict[str, object]:
    """Return bare params."""
    return {"messages": [{"role": "user", "content": text}], **params}


def drop_requests(bench: Bench, *texts: str, name: str = "many") -> None:
    """Drop one file with a request for each text."""
    bench.drop(f"{name}.jsonl", "\n".join(json.dumps(request(text)) for text in texts))


async def take_in(bench: Bench) -> None:
    """Let intake take what lies in the inbox."""
    while bench.inbox_names():
        await bench.step("intake")
        bench.advance(0.5)


async def send(bench: Bench) -> None:
    """Let the window's time pass, and dispatch do what is due."""
    bench.advance(1.1)
    await bench.step("dispatch")


async def dispatch_for(bench: Bench, seconds: float, *, every: float = 1.0) -> None:
    """Let dispatch do what is due for so long."""
    for _ in range(int(seconds / every)):
        await bench.step("dispatch")
        bench.advance(every)


def holds(bench: Bench) -> dict[str, str]:
    """Return what is held, and why."""
    return {str(name): str(reason) for name, reason in bench.rows("SELECT name, reason FROM holds")}


def batch_states(bench: Bench) -> list[str]:
    """Return the states of all batches, oldest first."""
    return [str(state) for (state,) in bench.rows("SELECT state FROM batches ORDER BY id")]


def marks(bench: Bench) -> set[str]:
    """Return the names of the documents in the outbox."""
    return {name for name in bench.outbox() if name.endswith(".json")}
