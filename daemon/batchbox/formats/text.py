"""A text becomes one request: the text is the user message, its header says the rest."""

from batchbox.errors import RejectedError
from batchbox.formats.draft import Draft, Origin, Rules
from batchbox.formats.encoding import to_utf8
from batchbox.formats.header import Header, split_header
from batchbox.formats.request import draft_of
from batchbox.model import RejectReason


def draft_of_text(data: bytes, name: str, *, rules: Rules) -> Draft:
    """Return the request of a text file. Raises RejectedError."""
    text = to_utf8(data).decode("utf-8")
    header = split_header(text) if rules.header == "auto" else Header(values={}, body=text)
    if not header.body or header.body.isspace():
        fact = "there is no text behind the header" if header.values else "the file holds nothing but white space"
        raise RejectedError(RejectReason.EMPTY, fact, "Write what you want to ask into the file and drop it again.")
    params = dict(header.values)
    custom_id = params.pop("custom_id", None)
    betas = params.pop("betas", None)
    if "effort" in params:
        params["output_config"] = {"effort": params.pop("effort")}
    params["messages"] = [{"role": "user", "content": header.body}]
    origin = Origin(name=name, line=None, malformed=RejectReason.BAD_HEADER)
    return draft_of(params, origin, custom_id=custom_id, betas=betas, rules=rules)
