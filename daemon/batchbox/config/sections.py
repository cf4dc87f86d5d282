"""The sections of the configuration file: which keys there are, what each may hold, and its default.

Attribute names are the file's own keys. Each model judges its values one by one; what two keys must agree on is in
`checks`. A key without a default that may be left out is None, which means what the comment beside it says.
"""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PlainSerializer

from batchbox.config.addresses import checked_base_url, checked_proxy, masked
from batchbox.config.quantities import Duration, Reserve, Size, Wait, exact_number

MB = 1000**2
GB = 1000**3
MINUTE = 60.0

BODY_BYTES_MAX = 250 * MB
"""The API refuses a create call over 256 MB; the rest is left to the envelope."""

REQUESTS_MAX = 100_000
"""The API's limit for one batch."""

COUNT_MAX = 1_000_000_000

_BETA = re.compile(r"[A-Za-z0-9._-]{1,128}")
_EXTENSION = re.compile(r"[a-z0-9]{1,8}")


def _absolute_path(value: object) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError('must be a path in quotes, like "/srv/batchbox"')
    path = Path(value)
    if not path.is_absolute():
        raise ValueError("is a relative path; write it from the root on, because a service has no folder to begin at")
    if ".." in path.parts:
        raise ValueError('must not hold ".."; write the path that it leads to')
    return path


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; fill it in or leave the key out")
    return text


def _one_word(text: str) -> str:
    if not text or not text.isprintable() or " " in text:
        raise ValueError("must be one word without spaces")
    return text


def _beta(text: str) -> str:
    if not _BETA.fullmatch(text):
        raise ValueError("is no beta's name; write one name an entry, of letters, digits, dots and hyphens")
    return text


def _extension(text: str) -> str:
    if not _EXTENSION.fullmatch(text):
        raise ValueError('must be 1 to 8 small letters and digits without a dot, like "md"')
    if text == "json":
        raise ValueError('must not be "json", which is what results and errors end in; choose "md" or "txt"')
    return text


def _fit_for_json(value: Mapping[str, object]) -> Mapping[str, object]:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise ValueError("holds a date, an infinity or a NaN, which JSON cannot carry; use texts and numbers") from None
    return value


def _within_one_body(size: int) -> int:
    if size > BODY_BYTES_MAX:
        raise ValueError("is over 250MB; choose less, because the API refuses a batch over 256 MB")
    return size


def _price(value: object) -> Decimal:
    price = exact_number(value)
    if price is None:
        raise ValueError("must be a number: US dollars per million tokens, at the batch price")
    if not 0 <= price <= COUNT_MAX:
        raise ValueError("is out of range; choose a price of 0 or more")
    return price


def _names_one(models: tuple[str, ...]) -> tuple[str, ...]:
    if not models:
        raise ValueError("is empty, which would forbid every model; name some, or leave the key out to allow all")
    return models


AbsolutePath = Annotated[Path, BeforeValidator(_absolute_path)]
Count = Annotated[int, Field(ge=1, le=COUNT_MAX)]
FilledText = Annotated[str, AfterValidator(_filled)]
Word = Annotated[str, AfterValidator(_one_word)]
Betas = Annotated[tuple[Annotated[str, AfterValidator(_beta)], ...], Field(strict=False)]  # TOML has lists, no tuples
Models = Annotated[tuple[Word, ...], Field(strict=False), AfterValidator(_names_one)]
BodySize = Annotated[Size, AfterValidator(_within_one_body)]
Price = Annotated[Decimal, BeforeValidator(_price), PlainSerializer(float, when_used="json")]
Temperature = Annotated[float, Field(ge=0, le=1)]
Thinking = Annotated[Mapping[str, object], AfterValidator(_fit_for_json)]
Extension = Annotated[str, AfterValidator(_extension)]
Header = Literal["auto", "off"]
Risk = Literal["file_id", "container", "mcp_servers"]


class Paths(BaseModel, frozen=True, extra="forbid", strict=True):
    """Where the folders are."""

    root: AbsolutePath
    """Holds inbox, outbox and the rest; may be a share."""
    state: AbsolutePath
    """Holds the database; must be a local disk."""


class Api(BaseModel, frozen=True, extra="forbid", strict=True):
    """Who is called, and how patiently."""

    base_url: Annotated[str, AfterValidator(checked_base_url)] = "https://api.anthropic.com"
    key_file: AbsolutePath | None = None
    """None: the service manager's credential, else the environment."""
    betas: Betas = ()
    """In the header of every batch, beside what lanes and files ask for."""
    workspace_id: Word | None = None
    proxy: Annotated[
        Annotated[str, AfterValidator(checked_proxy)] | None, PlainSerializer(masked, when_used="json")
    ] = Field(default=None, repr=False)  # it may hold a password
    ca_file: AbsolutePath | None = None
    grace: Duration = 15 * MINUTE
    """How long a batch in doubt is looked for before it counts as never created."""
    create_timeout: Duration = 30 * MINUTE
    timeout: Duration = MINUTE


class Window(BaseModel, frozen=True, extra="forbid", strict=True):
    """When a window is sealed into a batch: at whichever comes first."""

    max_requests: Annotated[int, Field(ge=1, le=REQUESTS_MAX)] = 10_000
    max_bytes: BodySize = 200 * MB
    max_wait: Wait = MINUTE


class Poll(BaseModel, frozen=True, extra="forbid", strict=True):
    """How often a batch is looked at."""

    first: Duration = MINUTE
    factor: Annotated[float, Field(ge=1, le=1000)] = 1.5
    max: Duration = 10 * MINUTE


class Inbox(BaseModel, frozen=True, extra="forbid", strict=True):
    """What is taken from the inbox, and when."""

    quiet: Duration | None = None
    """None: 2 s on a local disk, 10 s on a share."""
    rescan: Duration | None = None
    """None: 30 s on a local disk, 5 s on a share."""
    incomplete_after: Duration = 10 * MINUTE
    max_file_bytes: BodySize = 32 * MB
    max_jsonl_bytes: Size = 1 * GB
    max_pending: Count = 200_000
    max_pending_bytes: Size = 10 * GB
    min_free: Reserve = 500 * MB
    """0: the disks are filled to the end."""
    detection: Literal["auto", "events", "scan"] = "auto"
    hard_links: Literal["reject", "allow"] = "reject"


class Outbox(BaseModel, frozen=True, extra="forbid", strict=True):
    """What happens when an answer's name is taken."""

    on_existing: Literal["suffix", "replace"] = "suffix"


class Output(BaseModel, frozen=True, extra="forbid", strict=True):
    """What answers look like."""

    extension: Extension = "md"


class Defaults(BaseModel, frozen=True, extra="forbid", strict=True):
    """What holds for every lane that does not say otherwise, as far as it has no section of its own."""

    model: Word | None = None
    """None: the daemon does not start."""
    max_tokens: Count | None = None
    """None: as much as the model and the limits allow."""
    temperature: Temperature | None = None
    effort: Word | None = None
    thinking: Thinking | None = None
    system: FilledText | None = None
    betas: Betas = ()
    header: Header = "auto"
    require_marker: bool = False
    """Whether a file is taken only when `<name>.ready` lies beside it."""
    output: Output = Output()


class LaneWindow(BaseModel, frozen=True, extra="forbid", strict=True):
    """One lane's own window; None: as in [window]."""

    max_requests: Annotated[int, Field(ge=1, le=REQUESTS_MAX)] | None = None
    max_bytes: BodySize | None = None
    max_wait: Wait | None = None


class LaneOutput(BaseModel, frozen=True, extra="forbid", strict=True):
    """What one lane's answers look like; None: as in [defaults]."""

    extension: Extension | None = None


class LaneKeys(BaseModel, frozen=True, extra="forbid", strict=True):
    """What one lane says for itself; None: as in [defaults], or in the section of that name."""

    model: Word | None = None
    max_tokens: Count | None = None
    temperature: Temperature | None = None
    effort: Word | None = None
    thinking: Thinking | None = None
    system: FilledText | None = None
    betas: Betas | None = None
    header: Header | None = None
    require_marker: bool | None = None
    max_attempts: Count | None = None
    window: LaneWindow = LaneWindow()
    output: LaneOutput = LaneOutput()


class Limits(BaseModel, frozen=True, extra="forbid", strict=True):
    """What no file and no lane may go beyond."""

    models: Models | None = None
    """None: any model."""
    max_tokens: Count | None = None
    """None: only the model's own cap."""
    allow: Annotated[tuple[Risk, ...], Field(strict=False)] = ()


class ModelKeys(BaseModel, frozen=True, extra="forbid", strict=True):
    """What is known better about one model than the catalogue knows it; None: as in the catalogue."""

    cap: Count | None = None
    extended: Count | None = None
    input_usd: Price | None = None
    output_usd: Price | None = None
    cache_read_usd: Price | None = None
    cache_write_usd: Price | None = None
    cache_write_1h_usd: Price | None = None
    long_prompt_tokens: Count | None = None
    long_input_usd: Price | None = None
    long_output_usd: Price | None = None


class Retry(BaseModel, frozen=True, extra="forbid", strict=True):
    """How often and how soon something is tried again."""

    max_attempts: Count = 3
    first: Duration = MINUTE / 2
    max: Duration = 15 * MINUTE


class Retention(BaseModel, frozen=True, extra="forbid", strict=True):
    """How long things are kept."""

    done_days: Annotated[int, Field(ge=0, le=36_500)] = 30
    """0: an original is deleted as soon as its last request has ended."""


class Log(BaseModel, frozen=True, extra="forbid", strict=True):
    """What the log tells, and in which shape."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
