"""What models can do and cost."""

import tomllib
from dataclasses import fields
from decimal import Decimal

import pytest

from batchbox.pricing import Catalogue, ModelFacts, Usage, builtin_catalogue, builtin_catalogue_text, usage_from

MILLION = 1_000_000


@pytest.mark.parametrize(
    ("model", "cap"),
    [
        ("claude-opus-5-5", 300_000),
        ("claude-haiku-5-5", 300_000),
        ("claude-opus-5", 300_000),
        ("claude-opus-4-6", 300_000),
        ("claude-sonnet-5", 300_000),
        ("claude-sonnet-4-6", 300_000),
        ("claude-sonnet-5-5", 128_000),
        ("claude-fable-5-2", 128_000),
        ("claude-mythos-5", 128_000),
        ("claude-opus-4-5", 64_000),
        ("claude-haiku-4-5", 64_000),
        ("claude-of-tomorrow", None),
    ],
)
def test_the_cap_is_what_a_batch_with_the_300k_header_may_ask_for(model: str, cap: int | None) -> None:
    assert builtin_catalogue().cap(model) == cap


@pytest.mark.parametrize("model", list(tomllib.loads(builtin_catalogue_text())))
def test_every_built_in_model_has_a_cap_and_a_price(model: str) -> None:
    catalogue = builtin_catalogue()

    cost = catalogue.cost_usd(model, Usage(input_tokens=MILLION, output_tokens=MILLION))

    assert (catalogue.cap(model) or 0) >= 64_000
    assert cost is not None
    assert cost > 0


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(), "0"),
        (Usage(input_tokens=MILLION), "2"),
        (Usage(output_tokens=MILLION), "10"),
        (Usage(cache_read_tokens=MILLION), "0.2"),
        (Usage(cache_write_5m_tokens=MILLION), "2.5"),
        (Usage(cache_write_1h_tokens=MILLION), "4"),
        (Usage(input_tokens=1, output_tokens=1), "0.000012"),
        (Usage(input_tokens=10, output_tokens=300_000, cache_read_tokens=5, cache_write_1h_tokens=7), "3.000049"),
    ],
)
def test_the_cost_is_exact_and_knows_the_caches(usage: Usage, cost: str) -> None:
    assert builtin_catalogue().cost_usd("claude-opus-5-5", usage) == Decimal(cost)


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(input_tokens=100_000, output_tokens=MILLION), "0.255"),
        (Usage(input_tokens=100_001, output_tokens=MILLION), "1.27500025"),
        (Usage(input_tokens=100_000, cache_read_tokens=1), "0.025000025"),
        (Usage(cache_write_5m_tokens=50_001, cache_write_1h_tokens=50_000), "0.0406253125"),
    ],
)
def test_a_long_prompt_counted_with_its_cached_tokens_makes_the_whole_request_dearer(usage: Usage, cost: str) -> None:
    assert builtin_catalogue().cost_usd("claude-haiku-5-5", usage) == Decimal(cost)


def test_a_dated_snapshot_has_the_facts_of_its_undated_name() -> None:
    catalogue = builtin_catalogue()

    assert catalogue.cap("claude-opus-4-5-20251101") == 64_000
    assert catalogue.cost_usd("claude-opus-5-5-20260801", Usage(input_tokens=MILLION)) == 2


@pytest.mark.parametrize(
    "model", ["claude-opus-5-5-2026080", "claude-opus-5-5-20260801-v1", "claude-opus", "", "-20260801"]
)
def test_what_is_no_dated_snapshot_is_unknown_and_that_is_no_error(model: str) -> None:
    catalogue = builtin_catalogue()

    assert catalogue.cap(model) is None
    assert catalogue.cost_usd(model, Usage(input_tokens=1)) is None


def test_a_snapshot_with_an_entry_of_its_own_is_found_by_that() -> None:
    catalogue = Catalogue(models={"m-1": ModelFacts(cap=1), "m-1-20260101": ModelFacts(cap=2)})

    assert (catalogue.cap("m-1"), catalogue.cap("m-1-20260101"), catalogue.cap("m-1-20270101")) == (1, 2, 1)


def test_a_model_with_one_price_missing_has_no_cost_rather_than_half_of_it() -> None:
    catalogue = Catalogue(models={"m": ModelFacts(cap=1000, input_usd=Decimal(1))})

    assert catalogue.cost_usd("m", Usage(input_tokens=MILLION)) is None


def test_an_override_replaces_the_stated_facts_alone_and_derived_prices_follow() -> None:
    override = {"claude-opus-5-5": ModelFacts(input_usd=Decimal(4))}

    catalogue = builtin_catalogue().with_overrides(override)

    assert catalogue.cap("claude-opus-5-5") == 300_000
    assert catalogue.cost_usd("claude-opus-5-5", Usage(input_tokens=MILLION, output_tokens=MILLION)) == 14
    assert catalogue.cost_usd("claude-opus-5-5", Usage(cache_write_1h_tokens=MILLION)) == 8


def test_an_override_can_make_a_cache_free_and_a_snapshot_different_from_its_model() -> None:
    override = {"claude-opus-5-5-20260801": ModelFacts(extended=200_000, cache_read_usd=Decimal(0))}

    catalogue = builtin_catalogue().with_overrides(override)

    assert catalogue.cost_usd("claude-opus-5-5-20260801", Usage(cache_read_tokens=MILLION)) == 0
    assert catalogue.cap("claude-opus-5-5-20260801") == 200_000
    assert catalogue.cap("claude-opus-5-5") == 300_000


def test_an_override_can_make_an_unknown_model_known() -> None:
    override = {"new": ModelFacts(cap=5, input_usd=Decimal(1), output_usd=Decimal(1))}

    catalogue = builtin_catalogue().with_overrides(override)

    assert catalogue.cap("new") == 5
    assert catalogue.cost_usd("new", Usage(output_tokens=MILLION)) == 1


def test_a_misspelt_key_in_the_catalogue_is_an_error_and_not_a_missing_price() -> None:
    with pytest.raises(TypeError, match="imput_usd"):
        Catalogue.from_toml("[m]\nimput_usd = 1")


def test_the_catalogue_file_names_every_fact_that_there_is() -> None:
    text = builtin_catalogue_text()

    assert [field.name for field in fields(ModelFacts) if field.name not in text] == []


@pytest.mark.parametrize(
    ("mapping", "usage"),
    [
        ({}, Usage()),
        (
            {"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": 3, "service_tier": "batch"},
            Usage(input_tokens=1, output_tokens=2, cache_read_tokens=3),
        ),
        (
            {
                "cache_creation_input_tokens": 30,
                "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
            },
            Usage(cache_write_5m_tokens=10, cache_write_1h_tokens=20),
        ),
        ({"cache_creation_input_tokens": 30, "cache_creation": None}, Usage(cache_write_5m_tokens=30)),
        (
            {"cache_creation_input_tokens": 30, "cache_creation": {"ephemeral_1h_input_tokens": 20}},
            Usage(cache_write_5m_tokens=10, cache_write_1h_tokens=20),
        ),
        (
            {"cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 2}},
            Usage(cache_write_5m_tokens=1, cache_write_1h_tokens=2),
        ),
        (
            {"input_tokens": None, "output_tokens": "5", "cache_read_input_tokens": -1, "cache_creation": [1]},
            Usage(),
        ),
        ({"input_tokens": True, "output_tokens": 1.5}, Usage()),
    ],
)
def test_the_usage_of_an_answer_is_read_whatever_is_absent_or_odd(mapping: dict[str, object], usage: Usage) -> None:
    assert usage_from(mapping) == usage
