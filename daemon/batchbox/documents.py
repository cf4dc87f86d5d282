"""What the files that batchbox writes say: `.result.json`, `.error.json`, `.error.txt` and manifests.

Each is a function of what is recorded and of the line of results alone, so that writing it a second time, after a
crash, writes the same bytes.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import TypeVar

import msgspec

from batchbox.logs import shown
from batchbox.model import ApiBatchId, CustomId, Instance, Lane, Nonce, RejectReason, WireId

FORMAT = 1
"""The version of every document's shape."""

HEAD_BYTES = 16_384
"""So many bytes from the start hold a document's custom_id and, unless its usage is endless, its wire ids."""

_CUSTOM_ID = re.compile(rb'"custom_id": "([a-zA-Z0-9_-]{1,64})"')
_STATUS = re.compile(rb'\n  "status": "([a-z]{1,20})"')
_WIRE_IDS = re.compile(rb'\n  "wire_ids": (\[[^\]]{0,8000}\])')
"""Both at the outermost level: the line's own indentation says so, and a string has no line ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What every document about a request says."""

    custom_id: CustomId
    lane: Lane
    source: str
    owner: str
    model: str
    attempts: int
    batch_ids: Sequence[ApiBatchId]
    wire_ids: Sequence[WireId]
    request_ids: Sequence[str]
    """The API's ids of the calls and of an errored request, for its support."""
    dropped_at: datetime
    sent_at: datetime | None
    ended_at: datetime | None
    recovered: bool = False
    """Whether a person had it recovered from manifests; said only if it is so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a `.result.json` says beside the facts."""

    reason: str | None
    """Why it is incomplete; None: it is complete."""
    stop_reason: str | None
    usage: Mapping[str, object]
    cost_usd: Decimal | None
    message: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What an `.error.json` says beside the facts."""

    type: str
    text: str
    what_to_do: str
    billed: bool | None
    """None: nobody can tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What an `.error.txt` in rejected/ says."""

    name: str
    reason: RejectReason
    detail: str
    what_to_do: str
    received_at: datetime
    rejected_at: datetime
    receipt: str
    """What no other file has: it makes this the explanation of one file, even of two with the same name and fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestHead:
    """What the first line of a manifest says of the sending."""

    nonce: Nonce
    instance: Instance
    count: int
    mark: datetime | None
    base_url: str
    replaces: Nonce | None
    intended_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestEntry:
    """What a manifest says of one request."""

    number: int
    custom_id: CustomId
    lane: Lane
    source: str
    claim: str
    """Its name in processing/; a byte that is not UTF-8 is spelled out."""
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StemNote:
    """Who has taken a stem."""

    instance: Instance
    wire_ids: Sequence[str]


D = TypeVar("D", ManifestHead, ManifestEntry, StemNote)


def result_json(facts: Facts, answer: Answer) -> list[bytes]:
    """Return a `.result.json` in pieces; the message is passed on as the API wrote it."""
    status = "answered" if answer.reason is None else "incomplete"
    head = _head(
        facts,
        status=status,
        reason=answer.reason,
        stop_reason=answer.stop_reason,
        usage=answer.usage,
        cost_usd=answer.cost_usd,
    )
    return _with_message(head, answer.message)


def error_json(facts: Facts, failure: Failure, *, unwanted: Answer | None = None) -> list[bytes]:
    """Return an `.error.json` in pieces; with the answer that came, and was paid for, though nobody wanted it."""
    tail = {
        "error": {"type": failure.type, "text": failure.text},
        "billed": failure.billed,
        "what_to_do": failure.what_to_do,
    }
    if unwanted is None:
        cost_usd = Decimal(0) if failure.billed is False else None
        head = _head(facts, status="error", reason=None, stop_reason=None, usage=None, cost_usd=cost_usd)
        return [_indented(head | tail), b"\n"]
    head = _head(
        facts,
        status="error",
        reason=unwanted.reason,
        stop_reason=unwanted.stop_reason,
        usage=unwanted.usage,
        cost_usd=unwanted.cost_usd,
    )
    return _with_message(head | tail, unwanted.message)


def custom_id_in(head: bytes) -> str | None:
    """Return the custom_id of a document of ours from its first HEAD_BYTES bytes, or None."""
    found = _CUSTOM_ID.search(head)
    return found.group(1).decode() if found else None


def status_in(head: bytes) -> str | None:
    """Return the status of a document of ours from its first HEAD_BYTES bytes, or None."""
    found = _STATUS.search(head)
    return found.group(1).decode() if found else None


def wire_ids_in(head: bytes) -> Sequence[str]:
    """Return the wire ids of a document of ours from its first HEAD_BYTES bytes; none for what is not one."""
    found = _WIRE_IDS.search(head)
    try:
        return [] if found is None else msgspec.json.decode(found.group(1), type=list[str])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []


def stem_note(instance: Instance, wire_ids: Collection[str]) -> bytes:
    """Return the note that a stem is taken by; `wire_ids_in` finds the wire ids in it, as in any document."""
    return _indented({"instance": instance, "wire_ids": list(wire_ids)}) + b"\n"


def read_stem_note(content: bytes) -> StemNote:
    """Understand the note that a stem is taken by. Raises ValueError, also for one that breaks off."""
    return _decoded(content, StemNote)


def explanation(said: Explanation) -> bytes:
    """Return an `.error.txt`: for people, so with the line ends that every editor shows."""
    lines = [
        f"Not processed: {shown(said.name)}",
        f"Reason:        {said.reason}",
        f"Detail:        {shown_lines(said.detail)}",
        f"What to do:    {said.what_to_do}",
        f"Received:      {_for_people(said.received_at)}",
        f"Rejected:      {_for_people(said.rejected_at)}",
        f"Receipt:       {shown(said.receipt)}",
    ]
    return "".join(f"{line}\r\n" for line in lines).encode()


def shown_lines(text: str) -> str:
    """Return text of several lines, each safe to show, the later ones indented."""
    return ("\r\n" + " " * 15).join(shown(line) for line in text.splitlines())


def manifest_head(
    *,
    nonce: Nonce,
    instance: Instance,
    request_count: int,
    mark: datetime | None,
    base_url: str,
    replaces: Nonce | None,
    intended_at: datetime,
) -> bytes:
    """Return the first line of a manifest."""
    head = {
        "format": FORMAT,
        "nonce": nonce,
        "instance": instance,
        "count": request_count,
        "mark": mark,
        "base_url": base_url,
        "replaces": replaces,
        "intended_at": intended_at,
    }
    return msgspec.json.encode(head) + b"\n"


def manifest_line(
    *, number: int, custom_id: CustomId, lane: Lane, source: str, claim: str, sha256: str | None
) -> bytes:
    """Return the line of a manifest that is about one request."""
    line = {
        "number": number,
        "custom_id": custom_id,
        "lane": lane,
        "source": _text(source),
        "claim": _text(claim),
        "sha256": sha256,
    }
    return msgspec.json.encode(line) + b"\n"


def read_manifest_head(line: bytes) -> ManifestHead:
    """Understand the first line of a manifest. Raises ValueError."""
    return _decoded(line, ManifestHead)


def read_manifest_line(line: bytes) -> ManifestEntry:
    """Understand a later line of a manifest. Raises ValueError."""
    return _decoded(line, ManifestEntry)


def _decoded(line: bytes, kind: type[D]) -> D:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error


def with_request_id(facts: Facts, request_id: str | None) -> Facts:
    """Return the facts with one more of the API's ids, where there is one."""
    return facts if request_id is None else replace(facts, request_ids=[*facts.request_ids, request_id])


def _head(
    facts: Facts,
    *,
    status: str,
    reason: str | None,
    stop_reason: str | None,
    usage: Mapping[str, object] | None,
    cost_usd: Decimal | None,
) -> dict[str, object]:
    recovered = {"recovered": True} if facts.recovered else {}
    return {
        "format": FORMAT,
        "custom_id": facts.custom_id,
        "lane": facts.lane,
        "source": _text(facts.source),
        "owner": facts.owner,
        "status": status,
        "complete": status == "answered",
        "reason": reason,
        "model": facts.model,
        "stop_reason": stop_reason,
        "usage": usage,
        "cost_usd": None if cost_usd is None else msgspec.Raw(f"{cost_usd.normalize():f}".encode()),
        "attempts": facts.attempts,
        "parts": 1,
        "batch_ids": facts.batch_ids,
        "wire_ids": facts.wire_ids,
        "request_ids": facts.request_ids,
        "dropped_at": facts.dropped_at,
        "sent_at": facts.sent_at,
        "ended_at": facts.ended_at,
        **recovered,
    }


def _with_message(document: Mapping[str, object], message: bytes) -> list[bytes]:
    return [_indented(document)[: -len(b"\n}")], b',\n  "message": ', message or b"null", b"\n}\n"]


def _indented(document: Mapping[str, object]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=2)


def _text(name: str) -> str:
    """Return a file's name as text: a byte that is not UTF-8 is spelled out."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _for_people(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
