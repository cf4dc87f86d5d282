"""The demo's ending: what lies in the folders now, what it would have cost, and how to go on."""

import json
import textwrap
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import click

from batchbox.cli.demo.documents import ANSWER_COUNT
from batchbox.cli.demo.story import size_in_words
from batchbox.errors import BatchboxError
from batchbox.folders.layout import OUTBOX, REJECTED
from batchbox.logs import shown

WIDTH = 80
EXCERPT_LINES = 6
STANDARD_FACTOR = 2
"""A batch costs half of the standard price (the API's documentation, "Batch processing")."""

ANSWER = "letter.md"
EXPLANATION = "orders.json.error.txt"

NEXT_STEPS = """\
  batchbox init ~/batchbox --model claude-opus-5-5
  export ANTHROPIC_API_KEY=...
  batchbox check
  batchbox run

and, from another terminal, drop a file into ~/batchbox/inbox.
(In a checkout, `batchbox` is `python3 -m uv run batchbox`.)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What the answers would have cost."""

    answer_count: int
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal


def tell_ending(root: Path, *, first_answer_seconds: float | None) -> None:
    """Tell what came out of it. Raises BatchboxError if an answer is missing."""
    bill = _bill(root / OUTBOX)
    if bill.answer_count != ANSWER_COUNT or first_answer_seconds is None:
        raise BatchboxError(
            f"the demo brought {bill.answer_count} of {ANSWER_COUNT} answers. The lines above say what went wrong."
        )
    click.echo(f"\nThe first answer was there after {first_answer_seconds:.1f} seconds.")
    _head("The outbox")
    _tell_tree(root / OUTBOX, depth=1)
    _head(f"An answer: {OUTBOX}/{ANSWER}")
    _quote((root / OUTBOX / ANSWER).read_text(encoding="utf-8"), indent="")
    _head(f"Why one file came back: {REJECTED}/{EXPLANATION}")
    _quote((root / REJECTED / EXPLANATION).read_text(encoding="utf-8"), indent=" " * 15)
    _head("What it would have cost")
    _tell_bill(bill)
    _head("Now with a real key")
    click.echo(NEXT_STEPS, nl=False)


def _head(title: str) -> None:
    click.echo("\n" + click.style(title, bold=True))


def _quote(text: str, *, indent: str) -> None:
    """Print a file's first lines; what is wider than the page goes on below, indented."""
    lines = text.splitlines()
    for line in lines[:EXCERPT_LINES]:
        for piece in textwrap.wrap(shown(line), WIDTH - 4, subsequent_indent=indent) or [""]:
            click.echo(f"  | {piece}".rstrip())
    if len(lines) > EXCERPT_LINES:
        click.echo("  | [...]")


def _tell_tree(folder: Path, *, depth: int) -> None:
    """Print a line for everything in the folder: files first, then each folder with what is in it."""
    indent = "  " * depth
    for path in sorted(folder.iterdir(), key=lambda path: (path.is_dir(), path.name)):
        if path.is_dir():
            click.echo(f"{indent}{shown(path.name)}/")
            _tell_tree(path, depth=depth + 1)
        else:
            click.echo(f"{indent + shown(path.name):<36}{size_in_words(path.stat().st_size):>12}")


def _bill(outbox: Path) -> Bill:
    results = [json.loads(path.read_bytes(), parse_float=Decimal) for path in outbox.rglob("*.result.json")]
    return Bill(
        answer_count=sum(result["status"] == "answered" for result in results),
        input_tokens=sum(result["usage"]["input_tokens"] for result in results),
        output_tokens=sum(result["usage"]["output_tokens"] for result in results),
        cost_usd=sum((Decimal(result["cost_usd"]) for result in results), Decimal(0)),
    )


def _tell_bill(bill: Bill) -> None:
    tokens = f"{bill.input_tokens:,} tokens in, {bill.output_tokens:,} out"
    click.echo(f"  {bill.answer_count} answers, {tokens}, nearly all for the handbook:")
    click.echo(f"  ${bill.cost_usd:.2f} in batches; ${STANDARD_FACTOR * bill.cost_usd:.2f} at the standard price.")
    click.echo("  Nothing was paid: nobody but the simulator was asked.")
