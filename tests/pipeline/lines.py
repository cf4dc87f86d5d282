"""Results of lines that the fake workspace gives, beside the ordinary one."""

from collections.abc import Sequence

from .bench import Bench
from .fake_api import Answerer


def succeeded(
    stop_reason: str | None, *, text: str = "so far", output_tokens: int = 300_000, blocks: Sequence[object] = ()
) -> dict[str, object]:
    """Return the result of a line that was bought."""
    content = [{"type": "thinking", "thinking": "hm"}, *([{"type": "text", "text": text}] if text else []), *blocks]
    usage = {"input_tokens": 1_000_000, "output_tokens": output_tokens}
    message = {
        "type": "message",
        "model": "claude-opus-5-5",
        "content": content,
        "stop_reason": stop_reason,
        "usage": usage,
    }
    return {"type": "succeeded", "message": message}


def always(result: dict[str, object]) -> Answerer:
    """Return an answerer that gives every request this result."""
    return lambda *_: result


async def send(bench: Bench, *, batch_count: int = 1) -> None:
    """Go on until the workspace has so many batches; none of them ends."""
    while len(bench.api.batches) < batch_count:
        await bench.step_all()
        bench.advance(0.5)
