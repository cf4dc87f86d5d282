"""What models can do and cost: caps on the answer's length, batch prices, and the cost of one answer's usage.

The facts are data, in `models.toml` beside this module, and the configuration overrides them. An unknown model is never
an error here: its cap and its cost are None. Only tokens are counted; fees for server tools are not in a token price.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from importlib.resources import files
from typing import Self

CACHE_READ_SHARE = Decimal("0.1")
CACHE_WRITE_SHARE = Decimal("1.25")
CACHE_WRITE_1H_SHARE = Decimal(2)
"""Of the input price, where a model has no price of its own for it (the API's documentation, "Pricing")."""

TOKENS_PER_PRICE = 1_000_000

_SNAPSHOT_DATE = re.compile(r"-[0-9]{8}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The tokens of one answer, by price."""

    input_tokens: int = 0
    """Prompt tokens that neither came from a cache nor went into one."""
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0

    @property
    def prompt_tokens(self) -> int:
        """The length of the prompt, however its tokens are charged."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_5m_tokens + self.cache_write_1h_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What is known of one model; None is not known, or not so. Prices are USD per million tokens, in a batch."""

    cap: int | None = None
    extended: int | None = None
    input_usd: Decimal | None = None
    output_usd: Decimal | None = None
    cache_read_usd: Decimal | None = None
    cache_write_usd: Decimal | None = None
    cache_write_1h_usd: Decimal | None = None
    long_prompt_tokens: int | None = None
    long_input_usd: Decimal | None = None
    long_output_usd: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The facts of all known models. A dated snapshot without an entry of its own has those of its undated name."""

    models: Mapping[str, ModelFacts]

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """Read a catalogue in the format of `models.toml`. Raises TypeError for a key that is none."""
        tables = tomllib.loads(text, parse_float=Decimal)  # a float would make 0.05 a neighbour of 0.05
        return cls(models={model: _facts_from(table) for model, table in tables.items()})

    def cap(self, model: str) -> int | None:
        """Return the most output tokens that a request in a batch may ask for, the 300K header being in every batch."""
        facts = self._find(model) or ModelFacts()
        return facts.cap if facts.extended is None else facts.extended

    def cost_usd(self, model: str, usage: Usage) -> Decimal | None:
        """Return what the answer cost, unrounded; None if a price is missing."""
        prices = _prices(self._find(model) or ModelFacts(), prompt_tokens=usage.prompt_tokens)
        return None if prices is None else _cost(usage, prices)

    def with_overrides(self, overrides: Mapping[str, ModelFacts]) -> Self:
        """Return a catalogue in which each fact that an override states replaces that fact alone."""
        changed = {model: _merged(self._find(model) or ModelFacts(), facts) for model, facts in overrides.items()}
        return replace(self, models={**self.models, **changed})

    def _find(self, model: str) -> ModelFacts | None:
        return self.models.get(model) or self.models.get(_SNAPSHOT_DATE.sub("", model))


def builtin_catalogue_text() -> str:
    """Read the `models.toml` that is part of this package."""
    return files("batchbox").joinpath("models.toml").read_text(encoding="utf-8")


def builtin_catalogue() -> Catalogue:
    """Return the facts that this version of batchbox was published with."""
    return Catalogue.from_toml(builtin_catalogue_text())


def usage_from(mapping: Mapping[str, object]) -> Usage:
    """Read the `usage` object of an answer. What is absent, null or no count is 0.

    Cache writes whose lifetime is not told are taken for 5-minute ones, the API's default.
    """
    split = mapping.get("cache_creation")
    split = split if isinstance(split, Mapping) else {}
    written_1h = _count(split.get("ephemeral_1h_input_tokens"))
    written = _count(mapping.get("cache_creation_input_tokens"))
    return Usage(
        input_tokens=_count(mapping.get("input_tokens")),
        output_tokens=_count(mapping.get("output_tokens")),
        cache_read_tokens=_count(mapping.get("cache_read_input_tokens")),
        cache_write_5m_tokens=max(_count(split.get("ephemeral_5m_input_tokens")), written - written_1h),
        cache_write_1h_tokens=written_1h,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prices:
    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write: Decimal
    cache_write_1h: Decimal


def _prices(facts: ModelFacts, *, prompt_tokens: int) -> _Prices | None:
    if facts.long_prompt_tokens is not None and prompt_tokens > facts.long_prompt_tokens:
        long = ModelFacts(input_usd=facts.long_input_usd, output_usd=facts.long_output_usd)
        return _prices(long, prompt_tokens=prompt_tokens)
    if facts.input_usd is None or facts.output_usd is None:
        return None
    return _Prices(
        input=facts.input_usd,
        output=facts.output_usd,
        cache_read=_stated(facts.cache_read_usd, facts.input_usd * CACHE_READ_SHARE),
        cache_write=_stated(facts.cache_write_usd, facts.input_usd * CACHE_WRITE_SHARE),
        cache_write_1h=_stated(facts.cache_write_1h_usd, facts.input_usd * CACHE_WRITE_1H_SHARE),
    )


def _stated(price: Decimal | None, derived: Decimal) -> Decimal:
    return derived if price is None else price  # a price of 0 is a price


def _cost(usage: Usage, prices: _Prices) -> Decimal:
    total = (
        usage.input_tokens * prices.input
        + usage.output_tokens * prices.output
        + usage.cache_read_tokens * prices.cache_read
        + usage.cache_write_5m_tokens * prices.cache_write
        + usage.cache_write_1h_tokens * prices.cache_write_1h
    )
    return total / TOKENS_PER_PRICE


def _facts_from(table: Mapping[str, int | Decimal]) -> ModelFacts:
    prices = {key: Decimal(value) for key, value in table.items() if key.endswith("_usd")}
    counts = {key: int(value) for key, value in table.items() if key not in prices}
    return ModelFacts(**prices, **counts)  # type: ignore[arg-type]  # which key is which kind is told by its unit


def _merged(facts: ModelFacts, override: ModelFacts) -> ModelFacts:
    stated = {field.name: getattr(override, field.name) for field in fields(override)}
    return replace(facts, **{name: value for name, value in stated.items() if value is not None})


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
