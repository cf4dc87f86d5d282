"""The demo's documents: one of each kind, and one that is broken."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A file that lies in this package's `documents` folder."""

    name: str
    """Below the inbox; with a folder in it, that folder is the lane."""
    about: str
    request_count: int


DOCUMENTS = (
    Document(name="letter.md", about="a text", request_count=1),
    Document(name="handbook.md", about="a text with a TOML header", request_count=1),
    Document(name="minutes.txt", about="a text with a YAML header", request_count=1),
    Document(name="question.json", about="a request as the API has it", request_count=1),
    Document(name="reviews.jsonl", about="3 requests, one a line", request_count=3),
    Document(name="translations/chapter-1.md", about="a folder is a lane", request_count=1),
    Document(name="orders.json", about="one comma too many", request_count=0),
)

ANSWER_COUNT = sum(document.request_count for document in DOCUMENTS)


def drop_documents(inbox: Path) -> Iterator[Document]:
    """Write the documents into the inbox one by one; yield each when it lies there."""
    source = files(__package__).joinpath("documents")
    for document in DOCUMENTS:
        target = inbox / document.name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(source.joinpath(document.name).read_bytes())
        yield document
