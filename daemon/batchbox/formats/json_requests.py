"""The forms that a request may have in JSON, and the document that holds one or several of them."""

from batchbox.errors import RejectedError
from batchbox.formats.draft import Draft, Origin, Rules
from batchbox.formats.encoding import to_utf8
from batchbox.formats.ending import breaks_off
from batchbox.formats.json_syntax import parse
from batchbox.formats.kinds import FileKind
from batchbox.formats.problems import ProblemList, quoted, quoted_list
from batchbox.formats.request import draft_of
from batchbox.model import CustomId, RejectReason

ITEMS_MAX = 20_000
"""In one document, whose requests are all in memory at once. Lines of a file are not."""

ADDED_BYTES_MAX = 16_000_000
"""So much larger than their document may all its requests be: each has the lane's system prompt."""

_ENVELOPE_FIELDS = frozenset({"custom_id", "params", "betas"})

_FORMS = (
    'A request is {"custom_id": "...", "params": {"messages": [...]}} or the parameters alone; '
    'several are {"requests": [...]} or a list of them.'
)


def drafts_of_document(data: bytes, name: str, *, rules: Rules) -> list[Draft]:
    """Return the requests of a JSON file, one at least. Raises RejectedError, which names every bad item."""
    value = parse(_plain(data))
    items = _items(value)
    if items is None:
        return [draft_of_value(value, Origin(name=name, line=None, malformed=RejectReason.BAD_JSON), rules)]
    if not items:
        raise RejectedError(RejectReason.EMPTY, "the list of requests is empty", _FORMS)
    if len(items) > ITEMS_MAX:
        fact = f"there are {len(items):,} requests in one document, and at most {ITEMS_MAX:,} are possible"
        raise RejectedError(RejectReason.TOO_LARGE, fact, "Write them into a .jsonl file, one on each line.")
    return _drafts_of_items(items, name, size_bytes_max=len(data) + ADDED_BYTES_MAX, rules=rules)


def draft_of_value(value: object, origin: Origin, rules: Rules) -> Draft:
    """Return the request in one of its single forms, which become ours. Raises RejectedError."""
    if not isinstance(value, dict):
        raise RejectedError(RejectReason.BAD_JSON, "this is not a JSON object", _FORMS)
    if "params" not in value:
        if "requests" in value and "messages" not in value:
            raise RejectedError(RejectReason.BAD_JSON, '"requests" stands where one request is expected', _FORMS)
        return draft_of(value, origin, custom_id=None, betas=None, rules=rules)
    if surplus := value.keys() - _ENVELOPE_FIELDS:
        todo = 'Only "custom_id" and "betas" may stand beside "params": move everything else into it.'
        raise RejectedError(RejectReason.BAD_JSON, f'beside "params" there is {quoted_list(surplus)}', todo)
    params = value["params"]
    if not isinstance(params, dict):
        raise RejectedError(RejectReason.BAD_JSON, 'field "params" is not a JSON object', _FORMS)
    return draft_of(params, origin, custom_id=value.get("custom_id"), betas=value.get("betas"), rules=rules)


def check_ids(drafts: list[Draft], place: str) -> None:
    """Make sure that no custom_id was given twice. Raises RejectedError, `duplicate_id`, naming both places."""
    first: dict[CustomId, Draft] = {}
    problems = ProblemList(place)
    for draft in drafts:
        if not draft.explicit or draft.line is None:
            continue
        other = first.setdefault(draft.custom_id, draft)
        if other is not draft:
            fact = f"custom_id {quoted(draft.custom_id)} is that of {place} {other.line}, too"
            problem = RejectedError(RejectReason.DUPLICATE_ID, fact, "Give each request of a file its own custom_id.")
            problems.add(draft.line, problem)
    if problems:
        raise problems.rejection()


def _plain(data: bytes) -> bytes:
    """Decode the document; one that was cut inside a character is called incomplete, not badly encoded."""
    try:
        plain = to_utf8(data)
    except RejectedError as error:
        if error.reason is RejectReason.BAD_ENCODING and (ending := breaks_off(FileKind.JSON, data)):
            raise RejectedError(RejectReason.INCOMPLETE, ending, "Drop it again when it is complete.") from None
        raise
    if not plain or plain.isspace():
        raise RejectedError(RejectReason.EMPTY, "the file holds nothing but white space", _FORMS)
    return plain


def _items(value: object) -> list[object] | None:
    """Return the items of a document that holds a list, None for a document with a single request."""
    if isinstance(value, list):
        return value
    if not isinstance(value, dict) or "requests" not in value or "params" in value or "messages" in value:
        return None
    if surplus := value.keys() - {"requests"}:
        todo = (
            'Nothing may stand beside "requests": give it to each of them. What holds for a whole lane '
            "the administrator can set in [lanes.<name>] of the configuration."
        )
        raise RejectedError(RejectReason.BAD_JSON, f'beside "requests" there is {quoted_list(surplus)}', todo)
    items = value["requests"]
    if not isinstance(items, list):
        raise RejectedError(RejectReason.BAD_JSON, 'field "requests" is not a list', _FORMS)
    return items


def _drafts_of_items(items: list[object], name: str, *, size_bytes_max: int, rules: Rules) -> list[Draft]:
    drafts: list[Draft] = []
    size_bytes = 0
    problems = ProblemList("item")
    for number, item in enumerate(items, start=1):
        try:
            draft = draft_of_value(item, Origin(name=name, line=number, malformed=RejectReason.BAD_JSON), rules)
        except RejectedError as problem:
            problems.add(number, problem)
            if problems.is_full:
                break
            continue
        size_bytes += len(draft.params)
        if size_bytes > size_bytes_max:
            fact = (
                f"with what its lane adds to each, its {len(items):,} requests have more than {size_bytes_max:,} bytes"
            )
            raise RejectedError(RejectReason.TOO_LARGE, fact, "Write them into a .jsonl file, one on each line.")
        drafts.append(draft)
    if problems:
        raise problems.rejection()
    check_ids(drafts, "item")
    return drafts
