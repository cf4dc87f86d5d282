"""Prints sentences to a terminal's width without cutting through a word, so that names and commands can be copied."""

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
