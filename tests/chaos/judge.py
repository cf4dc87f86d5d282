"""What must hold after the chaos: by the ledger, every file sent exactly once and whole; by the folders, nothing lost.

Nothing that a daemon says of itself is asked.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchbox.simulator import Simulator

from .drops import Book, Drop, Fate


@dataclass(frozen=True, slots=True)
class Sent:
    """One request as the API has it."""

    wire_id: str
    text: str


def complaints(book: Book, simulator: Simulator, root: Path) -> list[str]:
    """Return everything that is not as it should be."""
    sent = list(_sent(simulator))
    return [*_about_sending(book, sent), *_about_answers(sent, root), *_about_originals(book, root), *_left_over(root)]


def _sent(simulator: Simulator) -> Iterator[Sent]:
    for batch in simulator.ledger._batches.every():
        for wire_id, params in zip(batch.custom_ids, batch.params, strict=True):
            yield Sent(wire_id, json.loads(bytes(params))["messages"][0]["content"].strip())


def _about_sending(book: Book, sent: Sequence[Sent]) -> Iterator[str]:
    times = Counter(one.text for one in sent)
    known = {text for drop in book.drops for text in drop.texts}
    for drop in book.drops:
        for text in drop.texts:
            wanted = {Fate.WRITTEN: {1}, Fate.DELETED: {0}, Fate.EXCUSED: {0, 1}}[drop.fate]
            if times[text] not in wanted:
                yield f"{drop.id} ({drop.fate}) was sent {times[text]} times"
    excused = {drop.id for drop in book.drops if drop.fate is Fate.EXCUSED}
    for text in times:
        if text not in known and text.partition(":")[0] not in excused:
            yield f"sent, and not what anybody had written: {text[:40]!r} … {text[-40:]!r}"


def _about_answers(sent: Sequence[Sent], root: Path) -> Iterator[str]:
    told: Counter[str] = Counter()
    for path in root.glob("outbox/**/*.json"):
        if not path.name.endswith(".result.json"):
            yield f"outbox/{path.name}: {path.read_text()[:600]}"
            continue
        document = json.loads(path.read_bytes())
        told.update(document["wire_ids"])
        text = "".join(block["text"] for block in document["message"]["content"] if block["type"] == "text")
        answer = path.with_name(path.name.replace(".result.json", ".md"))
        if not answer.exists() or answer.read_text() != text:
            yield f"{answer.name} is not the text of {path.name}"
    for one in sent:
        if told[one.wire_id] != 1:
            yield f"{one.wire_id} has {told[one.wire_id]} answers"
    texts, documents = len(list(root.glob("outbox/**/*.md"))), len(list(root.glob("outbox/**/*.result.json")))
    if texts != documents:
        yield f"{texts} texts beside {documents} documents"


def _about_originals(book: Book, root: Path) -> Iterator[str]:
    """Each is in done/, once; the excused ones may have gone there half-way, or be rejected."""
    kept = Counter(path.read_bytes() for path in root.glob("done/**/*") if path.is_file())
    rejected = [path for path in root.glob("rejected/**/*") if path.is_file()]
    for drop in book.drops:
        wanted = {Fate.WRITTEN: 1, Fate.DELETED: 0}.get(drop.fate)
        if wanted is not None and kept[drop.content] != wanted:
            yield f"{drop.id} ({drop.fate}) is {kept[drop.content]} times in done/"
    excused = [drop for drop in book.drops if drop.fate is Fate.EXCUSED]
    yield from (f"rejected/{path.name}" for path in rejected if not _is_of(path, excused))


def _is_of(path: Path, drops: Sequence[Drop]) -> bool:
    return any(path.name.startswith(f"{drop.id}.") for drop in drops)


def _left_over(root: Path) -> Iterator[str]:
    """No hidden part, no open manifest; a note may be left whose writer was killed in the middle of it."""
    yield from (f"left over: {path.name}" for path in root.glob("outbox/**/.bb-*.part"))
    for note in root.glob("outbox/**/.bb-*.name"):
        if note.read_bytes().endswith(b"}\n"):
            yield f"left over: {note.name}: {note.read_text()}"
    yield from (f"left open: {path.name}" for path in root.glob(".batchbox/batches/*/*.jsonl"))
