"""What must hold after every step, whatever happened: judged by the folders, the database and the ledger."""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from .fake_api import FakeApi

Ask = Callable[[str], list[tuple[Any, ...]]]
"""Returns the rows of a query. Any: what SQLite can hold."""

NEVER = {
    "an open request without its body": (
        "SELECT r.id FROM requests AS r WHERE r.state IN ('incoming', 'waiting', 'batched') AND r.size_bytes <> "
        "(SELECT coalesce(sum(length(data)), 0) FROM body_pieces WHERE key BETWEEN r.id * 1024 AND r.id * 1024 + 1023)"
    ),
    "an answered request whose body was kept": (
        "SELECT r.id FROM requests AS r JOIN body_pieces AS p ON p.key / 1024 = r.id WHERE r.state = 'answered'"
    ),
    "a source whose count of open requests is wrong": (
        "SELECT s.id FROM sources AS s WHERE s.state <> 'reading' AND s.open_count <> "
        "(SELECT count(*) FROM attachments AS a JOIN requests AS r ON r.id = a.request_id "
        "WHERE a.source_id = s.id AND r.state IN ('incoming', 'waiting', 'batched', 'failing'))"
    ),
    "a settled source with an open request": (
        "SELECT id FROM sources WHERE state IN ('settled', 'done') AND open_count > 0"
    ),
    "an open source without an open request": "SELECT id FROM sources WHERE state = 'open' AND open_count = 0",
    "an open request that nobody asked for": (  # one that has ended may be asked for no more: its file has changed
        "SELECT id FROM requests WHERE ended_at IS NULL AND id NOT IN (SELECT request_id FROM attachments)"
    ),
    "a request that may be sent, and no file that was read to its end asks for it": (
        "SELECT r.id FROM requests AS r WHERE r.state IN ('waiting', 'batched') AND NOT EXISTS "
        "(SELECT 1 FROM attachments AS a JOIN sources AS s ON s.id = a.source_id "
        "WHERE a.request_id = r.id AND s.state <> 'reading')"
    ),
    "a batched request in a batch that is over": (
        "SELECT r.id FROM requests AS r JOIN batches AS b ON b.id = r.batch_id "
        "WHERE r.state = 'batched' AND b.state IN ('closed', 'refused') AND b.is_undecided = 0"
    ),
    "a batched request that is no member of its batch": (
        "SELECT r.id FROM requests AS r WHERE r.state = 'batched' AND NOT EXISTS "
        "(SELECT 1 FROM members AS m WHERE m.batch_id = r.batch_id AND m.request_id = r.id)"
    ),
    "a batch that is being submitted without one open sending": (
        "SELECT b.id FROM batches AS b WHERE b.state = 'submitting' AND 1 <> "
        "(SELECT count(*) FROM sendings AS s WHERE s.batch_id = b.id AND s.outcome = 'open')"
    ),
    "an open sending of a batch that is not being submitted": (
        "SELECT s.nonce FROM sendings AS s JOIN batches AS b ON b.id = s.batch_id "
        "WHERE s.outcome = 'open' AND b.state <> 'submitting'"
    ),
    "a cancelled request that was answered as if it were not": (
        "SELECT id FROM requests WHERE canceled_at IS NOT NULL AND state IN ('answered', 'incomplete')"
    ),
    "a request that goes on although a file that takes it back was obeyed": (
        "SELECT r.id FROM sources AS c JOIN sources AS s ON s.lane = c.lane AND s.id < c.id "
        "AND s.name = substr(c.name, 1, length(c.name) - length('.cancel')) "
        "JOIN attachments AS a ON a.source_id = s.id JOIN requests AS r ON r.id = a.request_id "
        "WHERE c.state = 'done' AND CAST(c.name AS TEXT) LIKE '%.cancel' "
        "AND r.state IN ('waiting', 'batched') AND r.canceled_at IS NULL AND r.stem IS NULL"
    ),
    "an accepted batch without its id": (
        "SELECT id FROM batches WHERE state IN ('in_progress', 'ended', 'closed') AND (api_id IS NULL OR nonce IS NULL)"
    ),
}


@contextmanager
def stranger(state: Path) -> Iterator[Ask]:
    """Ask the database in a state folder, where nobody works on it."""
    with closing(sqlite3.connect(state / "batchbox.db")) as connection:
        yield lambda query: connection.execute(query).fetchall()


def check(root: Path, ask: Ask, api: FakeApi, dropped: Mapping[str, bytes], *, replaces_old: bool) -> None:
    """Raise AssertionError, naming what is broken."""
    for what, query in NEVER.items():
        rows = ask(query)
        assert not rows, f"{what}: {rows}"
    _check_purchases(ask, api)
    _check_documents(root, ask, replaces_old=replaces_old)
    _check_files(root, dropped)


def _check_purchases(ask: Ask, api: FakeApi) -> None:
    """Each request is bought once, and once more for every try that failed and may be repeated."""
    ((repeats, request_count),) = ask("SELECT coalesce(sum(attempts), 0), count(*) FROM requests")
    ours = sum(len(batch.requests) for batch in api.batches if not (batch.is_foreign or batch.was_hidden))
    unpaid = sum(line.count(b"credit balance") for batch in api.batches for line in batch.lines)
    assert ours - unpaid <= request_count + repeats, f"bought {ours}, for {request_count} requests, {repeats} repeats"


def _check_documents(root: Path, ask: Ask, *, replaces_old: bool) -> None:
    """Check that what is visible is finished and says one thing, and that what is recorded as ended is visible."""
    for path in (root / "outbox").rglob("*.json"):
        if not path.name.startswith("."):
            assert "custom_id" in json.loads(path.read_bytes()), f"{path.name} is torn"
            other = path.with_name(path.name.replace(".error.json", ".result.json"))
            assert other == path or not other.exists(), f"{path.name} and {other.name} contradict each other"
    rows = ask(
        "SELECT lane, stem, state FROM requests AS ended WHERE state IN ('answered', 'incomplete', 'failed') "
        "AND NOT EXISTS (SELECT 1 FROM requests AS r WHERE r.lane = ended.lane AND r.stem = ended.stem "
        "AND r.state IN ('batched', 'failing'))"  # that one is about to take its place
    )
    for lane, stem, state in rows:
        folder = root / "outbox" if lane == "_" else root / "outbox" / lane
        marker = "error" if state == "failed" else "result"
        assert (folder / f"{stem}.{marker}.json").exists(), f"{state} request {stem} has no .{marker}.json"
    stems = {(lane, stem.casefold()) for lane, stem, _ in rows}
    assert replaces_old or len(stems) == len(rows), "two requests share a stem"


def _check_files(root: Path, dropped: Mapping[str, bytes]) -> None:
    """Check that no dropped file is lost: its content is on its way, done or rejected."""
    places = [path for top in ("inbox", "processing", "done", "rejected") for path in (root / top).rglob("*")]
    present = {path.read_bytes() for path in places if path.is_file()}
    for name, content in dropped.items():
        assert content in present, f"{name} is lost"
