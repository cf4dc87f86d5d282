"""Judges a run by the folders, the workspace's ledger and, last, the database: the story has one right ending."""

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .story import BOUGHT, CHARGED, FILES, Story

TOPS = ("inbox", "outbox", "processing", "done", "rejected", ".batchbox/batches")
ANSWERED = {"": ("a", "b-1", "own", "long-1", "long-2"), "reports": ("c",), "odd": ("fine",)}
FAILED = {"": ("d",), "odd": ("poison",)}
REJECTED = ("bad.json", "reports/e.jsonl")
DOUBLE_DROP = ("a.md", "a.txt")
TIMES = ("dropped_at", "sent_at", "ended_at", "batch_ids", "wire_ids", "request_ids", "message", "text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a settled run has left in the folders, without what differs from run to run."""

    files: frozenset[str]
    documents: Mapping[str, object]


def require_sound(story: Story) -> None:
    """Judge what lies there between two lives. Raises AssertionError."""
    if story.has_tables():
        story.require_invariants()
    for marker in (story.root / "outbox").rglob("*.result.json"):
        result = json.loads(marker.read_bytes())
        text = marker.with_name(marker.name.replace(".result.json", ".md"))
        assert text.exists(), f"{marker.name} is visible before its answer"
        assert text.read_text() == result["message"]["content"][0]["text"], f"{text.name} is torn"
    too_much = Counter(_bought(story)) - Counter(BOUGHT)
    assert not too_much, f"bought too much: {too_much}"
    nonces = {wire_id.rpartition("__")[2].partition("-")[0] for wire_id in _wire_ids(story)}
    manifests = {path.name.partition(".jsonl")[0] for path in (story.root / ".batchbox/batches").rglob("*.jsonl*")}
    assert nonces <= manifests, f"sent without a manifest: {nonces - manifests}"


def require_settled(story: Story, *, clean: Outcome | None) -> Outcome:
    """Judge the end of a run: by the story, and by how it ends without any fault. Raises AssertionError."""
    assert Counter(_bought(story)) == Counter(BOUGHT), f"bought {sorted(_bought(story))}"
    outcome = outcome_of(story)
    for lane, stems in ANSWERED.items():
        for stem in stems:
            assert {str(Path("outbox", lane, stem + end)) for end in (".md", ".result.json")} <= outcome.files, stem
    for lane, stems in FAILED.items():
        assert {str(Path("outbox", lane, f"{stem}.error.json")) for stem in stems} <= outcome.files, stems
    assert story.document("c.result.json", "reports")["attempts"] == BOUGHT["c"], "tries are miscounted"
    for name, content in FILES.items():
        path = story.root / ("rejected" if name in REJECTED else "done") / name
        assert path.read_text() == content, f"{path} is not what was dropped"
    if clean is not None:
        assert outcome.files == clean.files, f"left {outcome.files ^ clean.files}"
        assert outcome.documents == clean.documents, "the documents say something else than without a fault"
    _require_quiet_database(story)
    return outcome


def outcome_of(story: Story) -> Outcome:
    """Return what is in the folders. Manifests must be closed; their names, the nonces, are left out.

    A part of one that was broken off may lie there: it is deleted when it is old.
    """
    files = {path.relative_to(story.root).as_posix() for top in TOPS for path in (story.root / top).rglob("*")}
    manifests = {name for name in files if name.startswith(".batchbox/batches/") and "." in Path(name).name}
    odd = [name for name in manifests if not name.endswith((".jsonl.closed", ".part"))]
    assert not odd, f"manifests that are open: {odd}"
    documents = {path.name: _without_times(path) for path in (story.root / "outbox").rglob("*.json")}
    return Outcome(files=frozenset(files - manifests), documents=documents)


def _without_times(path: Path) -> object:
    """Return what a document says that is the same in every run; either file of the double drop may be the first."""
    document = json.loads(path.read_bytes())
    return {key: "a" if value in DOUBLE_DROP else value for key, value in document.items() if key not in TIMES}


def _bought(story: Story) -> list[str]:
    return [wire_id.rpartition("__")[0] for wire_id in _wire_ids(story)]


def _wire_ids(story: Story) -> list[str]:
    return [wire_id for batch in story.api.batches if not batch.is_foreign for wire_id in batch.requests]


def _require_quiet_database(story: Story) -> None:
    connection = sqlite3.connect(story.state / "batchbox.db")
    try:
        ((charge_count,),) = connection.execute("SELECT count(*) FROM charges")
        assert charge_count == CHARGED, f"{charge_count} charges"
        for table, condition in (("sendings", "outcome = 'open'"), ("batches", "state NOT IN ('closed', 'refused')")):
            rows = connection.execute(f"SELECT * FROM {table} WHERE {condition}").fetchall()  # noqa: S608 - constants
            assert not rows, f"{table}: {rows}"
    finally:
        connection.close()
