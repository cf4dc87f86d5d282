"""Sentences for a terminal: numbers with their words, and lines that cut through none, so that names can be copied."""

import shutil
import textwrap

import click


def print_paragraph(text: str) -> None:
    """Print one paragraph; what it is indented by, all of its lines are."""
    indent = text[: len(text) - len(text.lstrip())]
    click.echo(
        textwrap.fill(
            text.strip(),
            width=shutil.get_terminal_size().columns,
            initial_indent=indent,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    )


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return the number with the word for so many: `many`, or with an `s` where that is not given."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"
