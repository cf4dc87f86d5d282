"""The table of the last long run in `tests/README.md`: one row per suite, written by the run itself."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

from .record import Record

START = "<!-- long run: start -->\n"
END = "<!-- long run: end -->"
HEAD = (
    "| suite | proves | tried | violations | mutations caught | run |\n"
    "|---|---|---|---|---|---|\n"
)  # fmt: skip


def write_table(readme: Path, records: Sequence[Record], *, day: date, machine: str) -> None:
    """Put a row for each record into the table, in place of the suite's old one; other suites keep theirs."""
    text = readme.read_text()
    before, _, rest = text.partition(START)
    table, _, after = rest.partition(END)
    rows = dict(_rows_of(table))
    rows.update({record.suite: _row(record, day=day, machine=machine) for record in records})
    body = HEAD + "".join(f"{row}\n" for row in rows.values())
    readme.write_text(f"{before}{START}{body}{END}{after}")


def _rows_of(table: str) -> Mapping[str, str]:
    lines = table.splitlines()[2:]
    return {line.split("|")[1].strip(): line for line in lines if line.startswith("|")}


def _row(record: Record, *, day: date, machine: str) -> str:
    tried = ", ".join(f"{count:,} {what}" for what, count in record.tried.items())
    caught = sum(record.mutations.values())
    cells = [
        record.suite,
        record.proves,
        record.skipped or tried,
        f"{len(record.violations)}",
        f"{caught} of {len(record.mutations)}",
        f"{day}, {record.seconds:.0f} s, {machine}",
    ]
    return f"| {' | '.join(cells)} |"
