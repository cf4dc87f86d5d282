"""What files may hold, and how it becomes requests: pure functions from bytes and rules to drafts.

Whatever a file holds, the outcome is a list of complete, checked requests, or one RejectedError that says what is
wrong, where, and what to do. A detail names fields, lines and bytes; it never quotes what a prompt says.

`text` and `header` read .md and .txt, `json_requests` and `json_lines` the JSON kinds; all bytes go through `encoding`,
all JSON through `json_syntax`, and `request` judges every request alike. `weight` says what may be parsed at once.
"""

from batchbox.errors import RejectedError
from batchbox.formats.draft import Draft, Rules
from batchbox.formats.ending import breaks_off
from batchbox.formats.json_lines import JsonLinesParser
from batchbox.formats.json_requests import check_ids, drafts_of_document
from batchbox.formats.kinds import KNOWN_EXTENSIONS, FileKind, kind_of
from batchbox.formats.request import REQUEST_BYTES_MAX
from batchbox.formats.text import draft_of_text
from batchbox.formats.weight import slices, weight_of
from batchbox.model import RejectReason

__all__ = [
    "KNOWN_EXTENSIONS",
    "REQUEST_BYTES_MAX",
    "Draft",
    "FileKind",
    "JsonLinesParser",
    "Rules",
    "breaks_off",
    "kind_of",
    "parse_file",
    "slices",
    "weight_of",
]


def parse_file(name: str, data: bytes, rules: Rules) -> list[Draft]:
    """Return the requests of a file, one at least, by its name's extension; no custom_id in it is given twice.

    Raises RejectedError, which names every problem that was found.
    """
    kind = kind_of(name)
    if kind is FileKind.TEXT:
        return [draft_of_text(data, name, rules=rules)]
    if kind is FileKind.JSON:
        return drafts_of_document(data, name, rules=rules)
    if kind is FileKind.JSON_LINES:
        parser = JsonLinesParser(name, rules)
        drafts = [*parser.feed(data), *parser.finish()]
        check_ids(drafts, "line")
        return drafts
    known = ", ".join(KNOWN_EXTENSIONS)
    todo = f"Give the file a name that ends in one of these: {known}."
    raise RejectedError(RejectReason.UNKNOWN_TYPE, "the extension is not one of a known type", todo)
