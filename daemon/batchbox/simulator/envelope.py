"""The body of a create call: what the API checks of it before it answers, and nothing more.

Params stay the bytes that were sent: the decoded entries are views into the one body that was read, so a batch of
250 MB costs its own size and a little. What is inside params is validated when the batch is processed.
"""

import codecs
import re
from collections.abc import AsyncIterator, Sequence

import msgspec

from batchbox.simulator.refusals import Refusal
from batchbox.simulator.shape import complaint

BODY_BYTES_MAX = 256_000_000
REQUEST_COUNT_MAX = 100_000

_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}\Z")


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One request of a batch, as it was sent."""

    custom_id: str
    params: msgspec.Raw


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    requests: list[Entry]


_ABSENT = msgspec.Raw(b"null")


class _RefusedInBatches(msgspec.Struct, frozen=True):
    """The fields of params that the API does not take in a batch, by its documentation."""

    stream: msgspec.Raw = _ABSENT
    max_tokens: msgspec.Raw = _ABSENT
    speed: msgspec.Raw = _ABSENT
    store: msgspec.Raw = _ABSENT
    previous_thread_event_id: msgspec.Raw = _ABSENT
    cache_hint: msgspec.Raw = _ABSENT
    context_hint: msgspec.Raw = _ABSENT


_refused_in_batches = msgspec.json.Decoder(_RefusedInBatches)
_ALWAYS_REFUSED = ("speed", "store", "previous_thread_event_id", "cache_hint", "context_hint")


async def read_body(pieces: AsyncIterator[bytes], *, announced_bytes: int | None) -> bytearray:
    """Gather a body. Raises Refusal when it is too large or not UTF-8."""
    if announced_bytes is not None and announced_bytes > BODY_BYTES_MAX:
        raise _too_large()
    body = bytearray()
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        async for piece in pieces:
            decoder.decode(piece)
            body += piece
            if len(body) > BODY_BYTES_MAX:
                raise _too_large()
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise Refusal("invalid_request_error", "The request body is not valid UTF-8") from None
    return body


def read_entries(body: bytearray) -> Sequence[Entry]:
    """Check the envelope and return its requests, views into the body, which nobody may change any more.

    Raises Refusal for the first thing that is wrong.
    """
    try:
        entries = msgspec.json.decode(body, type=_Envelope).requests
    except msgspec.ValidationError as error:
        raise Refusal("invalid_request_error", complaint(error)) from error
    except msgspec.DecodeError as error:
        raise Refusal("invalid_request_error", f"The request body is not valid JSON: {error}") from error
    if not entries:
        raise Refusal("invalid_request_error", "requests: List should have at least 1 item, not 0")
    if len(entries) > REQUEST_COUNT_MAX:
        raise Refusal(
            "invalid_request_error", f"requests: List should have at most {REQUEST_COUNT_MAX} items, not {len(entries)}"
        )
    _check_ids(entries)
    for number, entry in enumerate(entries):
        _check_params(number, entry.params)
    return entries


def _too_large() -> Refusal:
    return Refusal("request_too_large", "Request exceeds the maximum size")


def _check_ids(entries: Sequence[Entry]) -> None:
    seen: set[str] = set()
    for number, entry in enumerate(entries):
        if not _CUSTOM_ID.match(entry.custom_id):
            raise Refusal(
                "invalid_request_error",
                f"requests.{number}.custom_id: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'",
            )
        if entry.custom_id in seen:
            raise Refusal(
                "invalid_request_error", f"requests.{number}.custom_id: {entry.custom_id} is not unique in this batch"
            )
        seen.add(entry.custom_id)


def _check_params(number: int, params: msgspec.Raw) -> None:
    try:
        fields = _refused_in_batches.decode(params)
    except msgspec.ValidationError:
        raise Refusal("invalid_request_error", f"requests.{number}.params: Input should be an object") from None
    present = [name for name in _ALWAYS_REFUSED if bytes(getattr(fields, name)) != b"null"]
    if bytes(fields.stream) == b"true":
        present.append("stream")
    if present:
        raise Refusal("invalid_request_error", f"requests.{number}.params.{present[0]}: Not supported in batches")
    if bytes(fields.max_tokens) == b"0":
        raise Refusal("invalid_request_error", f"requests.{number}.params.max_tokens: 0 is not supported in batches")
