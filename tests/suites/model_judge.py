"""Judges by the folders and the workspace's ledger, once every fault is cured and nothing is open any more."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.fake_api import FakeBatch

from .model_bench import ModelBench
from .model_ledger import ATTEMPTS_MAX, Asked, failed_tries, fate_in
from .model_workspace import REPEATED_FATES, Fate, tag_of, tags_in

SHORT_READS_MAX = 3
REPEATED_ERRORS = frozenset({"overloaded_error", "expired"})
"""What a request ends with whose attempts are used up."""
MARKERS = (".result.json", ".error.json")


class Judge:
    """Looks at everything that is left."""

    def __init__(self, bench: ModelBench) -> None:
        self._bench = bench
        self._workspace = bench.workspace
        self._batches = {batch.id: batch for batch in self._workspace.ours}
        self._asked = {asked.tag: asked for drop in bench.ledger.drops for asked in drop.asked}
        self._counts: Counter[int] = Counter()
        self._failed: Counter[int] = Counter()
        self._unsent: list[tuple[str, Mapping[str, str]]] = []  # documents of requests that were cancelled before

    def judge(self) -> None:
        """Raise AssertionError for what is not as it was promised."""
        taken = self._judge_originals()
        for marker in self._markers():
            self._judge_document(marker)
        for name, document in self._unsent:
            self._place(name, document)
        for tag, is_taken in taken.items():
            count, lives = self._counts[tag], self._bench.ledger.lives[tag]
            assert int(is_taken) <= count <= lives * is_taken, f"[q{tag}] has {count} documents for {lives} lives"
        for tag, count in self._failed.items():
            tries = failed_tries(self._workspace, tag)
            assert tries >= ATTEMPTS_MAX * count, f"[q{tag}] was given up after {tries} tries"
        parts = list((self._bench.root / "outbox").rglob(".bb-*"))
        assert not parts, f"parts were left behind: {parts}"

    def _judge_originals(self) -> Mapping[int, bool]:
        """Check that every dropped file found its place; return of which requests there must be documents."""
        done, rejected = self._contents("done"), self._contents("rejected")
        taken: dict[int, bool] = {}
        dropped = Counter(drop.key for drop in self._bench.ledger.drops)
        for drop in self._bench.ledger.drops:
            found = done[drop.key] + rejected[drop.key]
            assert found == dropped[drop.key], f"{drop.path} was dropped {dropped[drop.key]} times and is there {found}"
            is_canceled = drop.path in self._bench.ledger.canceled_files
            is_odd = not drop.asked or drop.is_growing or any(asked.is_explicit for asked in drop.asked)
            may_be_rejected = is_odd or is_canceled
            assert may_be_rejected or not rejected[drop.key], f"{drop.path} was rejected"
            assert drop.asked or not done[drop.key], f"{drop.path} was not rejected"
            taken |= {asked.tag: done[drop.key] > 0 for asked in drop.asked}
        return taken

    def _contents(self, top: str) -> Counter[tuple[str | None, bytes]]:
        folder = self._bench.root / top
        found: Counter[tuple[str | None, bytes]] = Counter()
        for path in folder.rglob("*"):
            if path.is_file() and not path.name.endswith(".error.txt"):
                lane = None if path.parent == folder else path.parent.name
                found[lane, path.read_bytes()] += 1
                told = path.with_name(f"{path.name}.error.txt").exists()
                assert top == "done" or told, f"{path.name} was rejected without a word"
        return found

    def _markers(self) -> Iterator[Path]:
        for path in sorted((self._bench.root / "outbox").rglob("*.json")):
            if path.name.endswith(MARKERS):
                yield path

    def _judge_document(self, path: Path) -> None:
        document = json.loads(path.read_bytes())
        is_error = document["status"] == "error"
        if document["wire_ids"]:
            batch, params = self._ended_in(path, document)
            tag = tag_of(params)
            if is_error:
                self._judge_error(document, tag, batch)
            else:
                self._judge_answer(path, document, params, batch)
        elif document["error"]["type"] == "canceled":
            self._unsent.append((path.name, document))
            return
        else:
            (tag,) = tags_in(document["error"]["text"])
            assert document["error"]["type"] == "refused", f"{path.name} ended without being sent"
            assert tag in self._workspace.refused, f"{path.name} was not refused"
        self._counts[tag] += 1
        asked: Asked = self._asked[tag]
        assert asked.fits(document["custom_id"]), f"{path.name} is about [q{tag}], which is {asked.custom_id}"

    def _ended_in(self, path: Path, document: Mapping[str, Any]) -> tuple[FakeBatch, bytes]:  # Any: what JSON can hold
        """Return the batch that brought the request's end, with its params there.

        That is the last one; or, while the request waited to be bought again, an earlier one that had been hidden.
        """
        sendings = []
        for batch_id, wire_id in zip(document["batch_ids"], document["wire_ids"], strict=True):
            assert batch_id in self._batches, f"{path.name} is from {batch_id}, which is not ours"
            sendings.append((self._batches[batch_id], self._batches[batch_id].requests[wire_id]))
        *earlier, (last, params) = sendings
        is_repeated = fate_in(self._workspace, last, tag_of(params)) in REPEATED_FATES
        if is_repeated and (document.get("error") or {}).get("type") not in REPEATED_ERRORS:
            return next(((one, own) for one, own in reversed(earlier) if one.was_hidden), (last, params))
        return last, params

    def _place(self, name: str, document: Mapping[str, str]) -> None:
        """Find the request that was cancelled before it was sent: one of that name that has no document yet."""
        tags = [
            asked.tag
            for drop in self._bench.ledger.drops
            if (drop.lane or "_", drop.name) == (document["lane"], document["source"])
            for asked in drop.asked
            if asked.fits(document["custom_id"]) and asked.tag in self._bench.ledger.canceled
        ]
        assert tags, f"{name} says that it was cancelled, and nobody did that"
        self._counts[min(tags, key=lambda tag: self._counts[tag])] += 1

    def _judge_answer(self, path: Path, document: Mapping[str, object], params: bytes, batch: FakeBatch) -> None:
        fate = fate_in(self._workspace, batch, tag_of(params))
        is_whole = document["status"] == "answered"
        assert fate is (Fate.ANSWER if is_whole else Fate.SHORT), f"{path.name} is {document['status']}, and was {fate}"
        stem = path.name.removesuffix(".result.json")
        answer = path.with_name(f"{stem}.md" if is_whole else f"{stem}.incomplete.md").read_text()
        expected = f"answer to {hashlib.sha256(params).hexdigest()}"
        assert answer.strip() == expected, f"{path.name} has somebody else's answer: {answer!r}"

    def _judge_error(self, document: Mapping[str, dict[str, str]], tag: int, batch: FakeBatch) -> None:
        error_type = document["error"]["type"]
        fate = fate_in(self._workspace, batch, tag)
        match error_type:
            case one if one in REPEATED_ERRORS:
                self._failed[tag] += 1
                is_true = fate in {Fate.TRANSIENT, Fate.EXPIRED}
            case "invalid_request_error":
                is_true = fate is Fate.INVALID
            case "canceled":
                is_billed = fate in {Fate.ANSWER, Fate.SHORT}
                is_true = tag in self._bench.ledger.canceled and document["billed"] is is_billed  # type: ignore[comparison-overlap] # JSON
            case "canceled_elsewhere":
                is_true = fate is Fate.CANCELED
            case "result_missing":
                is_true = fate is Fate.MISSING or self._workspace.short_reads[batch.id] >= SHORT_READS_MAX
            case "results_gone":
                is_true = self._workspace.is_archived(batch)
            case "refused":
                is_true = tag in self._workspace.refused
            case _:
                is_true = False
        assert is_true, f"[q{tag}] ended as {error_type}, and was {fate} in {batch.id}"
