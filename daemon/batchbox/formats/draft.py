"""The records of this package: what rules come in, what drafts go out, and where a draft comes from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from batchbox.model import CustomId, RejectReason
from batchbox.naming import custom_id_of_file, numbered


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a lane and the limits say. A file's own values win over the defaults, all within the limits."""

    model: str | None
    max_tokens: int | None
    temperature: float | None
    effort: str | None
    thinking: Mapping[str, object] | None
    system: str | None
    betas: tuple[str, ...]
    """What every request of the lane gets beside OUTPUT_300K_BETA."""
    header: Literal["auto", "off"]
    """Whether a text may begin with a header."""
    allow: frozenset[str]
    """Of `file_id`, `container` and `mcp_servers`, those that a file may use."""
    models: tuple[str, ...] | None
    """The only ones that may be asked for; None: any."""
    max_tokens_limit: int | None
    cap: Callable[[str], int | None]
    """The most that a model answers in a batch with the 300K header; None for a model that is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One request as its file describes it, complete and checked."""

    custom_id: CustomId
    explicit: bool
    """Given in the file, as against derived from its name."""
    line: int | None
    """The physical line of JSON Lines or the item of a list, both from 1; None in a file with a single request."""
    params: bytes
    """Our own serialisation."""
    betas: tuple[str, ...]
    """Sorted, each once, OUTPUT_300K_BETA among them."""
    model: str
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a request stands, and how its file is to be called broken."""

    name: str
    """The file's."""
    line: int | None
    malformed: RejectReason
    """For a value of the wrong type: `bad_json` or `bad_header`."""

    @property
    def derived_id(self) -> CustomId:
        """The custom_id of a request that has none of its own."""
        stem_id = custom_id_of_file(self.name)
        return stem_id if self.line is None else numbered(stem_id, self.line)
