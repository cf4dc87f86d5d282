"""The configuration: what is read from its text, what is refused and in which words, and what is shown of it."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from batchbox.config import Settings, as_mapping, as_toml, parse_settings, warnings
from batchbox.config.quantities import duration_text, read_duration, read_size, size_text
from batchbox.config.sections import ModelKeys
from batchbox.errors import ConfigurationError, ExitCode
from batchbox.model import INBOX_LANE, Lane
from batchbox.pricing import ModelFacts

EXAMPLE = (Path(__file__).parent.parent / "config.example.toml").read_text(encoding="utf-8")

PATHS = '[paths]\nroot = "/srv/batchbox"\nstate = "/var/lib/batchbox"\n'

EVERYTHING = """
[api]
base_url = "http://127.0.0.1:8080/gateway/"
key_file = "/etc/batchbox/key"
betas = ["files-api-2025-04-14"]
workspace_id = "wrkspc_1"
proxy = "http://someone:hunter2@proxy.example.com:3128"
ca_file = "/etc/ssl/ca.pem"
grace = 0.25
[window]
max_wait = "1.5s"
max_bytes = "32MiB"
[inbox]
quiet = "500ms"
max_jsonl_bytes = 12345
[defaults]
model = "claude-opus-5-5"
max_tokens = 200000
temperature = 1
effort = "high"
thinking = { type = "adaptive" }
system = "Two\\nlines."
betas = ["a-1", "files-api-2025-04-14"]
output.extension = "txt"
[lanes.reports]
model = "claude-haiku-4-5-20251001"
max_tokens = 64000
betas = []
header = "off"
max_attempts = 1
window = { max_requests = 5 }
[lanes."Żółw & Co"]
output = { extension = "html" }
[limits]
models = ["claude-opus-5-5", "claude-haiku-4-5-20251001"]
max_tokens = 250000
allow = ["file_id"]
[models."claude-x.1"]
cap = 100
input_usd = 0.05
[retention]
done_days = 0
"""


def parsed(text: str) -> Settings:
    return parse_settings(PATHS + text, source="config.toml")


def problems_of(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parse_settings(text, source="config.toml")
    return list(caught.value.problems)


def problems_or_none(text: str) -> list[str]:
    try:
        parse_settings(text, source="config.toml")
    except ConfigurationError as error:
        return list(error.problems)
    return []


# Reading


def test_paths_alone_are_a_configuration_and_the_rest_has_its_defaults() -> None:
    settings = parsed("")

    assert settings.paths.root == Path("/srv/batchbox")
    assert (settings.api.base_url, settings.api.grace) == ("https://api.anthropic.com", 900.0)
    assert (settings.window.max_requests, settings.window.max_bytes, settings.window.max_wait) == (
        10_000,
        200 * 1000**2,
        60,
    )
    assert (settings.poll.first, settings.poll.factor, settings.poll.max) == (60, 1.5, 600)
    assert (settings.inbox.quiet, settings.inbox.rescan) == (None, None)
    assert (settings.inbox.max_file_bytes, settings.inbox.max_pending) == (32 * 1000**2, 200_000)
    assert (settings.retry.max_attempts, settings.retry.first, settings.retry.max) == (3, 30, 900)
    assert settings.retention.done_days == 30
    assert warnings(settings) == []


def test_every_kind_of_value_is_read_as_what_it_stands_for() -> None:
    settings = parsed(EVERYTHING)

    assert settings.api.base_url == "http://127.0.0.1:8080/gateway"
    assert settings.api.grace == 0.25
    assert settings.window.max_wait == 1.5
    assert settings.window.max_bytes == 32 * 1024**2
    assert settings.inbox.quiet == 0.5
    assert settings.inbox.max_jsonl_bytes == 12_345
    assert settings.defaults.thinking == {"type": "adaptive"}
    assert settings.limits.allow == ("file_id",)


def test_a_byte_order_mark_before_the_text_is_not_part_of_it() -> None:
    assert parse_settings("\ufeff" + PATHS, source="config.toml") == parsed("")


def test_settings_cannot_be_changed_afterwards() -> None:
    settings = parsed("")

    with pytest.raises(ValidationError, match="frozen"):
        settings.poll.first = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("90s", 90),
        ("5m", 300),
        ("24h", 86_400),
        ("2d", 172_800),
        ("1.5s", 1.5),
        ("500ms", 0.5),
        ("100ms", 0.1),
        ("5 m", 300),
        (3, 3),
        (0.2, 0.2),
        (0, 0),
        ("0s", 0),
        ("366d", 31_622_400),
    ],
)
def test_a_duration_is_read(value: object, seconds: float) -> None:
    assert read_duration(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "90",
        "",
        "s",
        "5 minutes",
        "5M",
        "-5s",
        "1e3s",
        "\u0661s",
        "1,5s",
        "5m30s",
        True,
        None,
        ["5s"],
        -1,
        "367d",
        float("nan"),
        float("inf"),
        10**400,
        "9" * 30 + "s",
    ],
)
def test_what_is_no_duration_or_a_senseless_one_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"is not a duration; write|is out of range; choose"):
        read_duration(value)


@pytest.mark.parametrize(
    ("value", "size"),
    [("200MB", 200_000_000), ("32MiB", 33_554_432), ("1.5KB", 1500), ("1 GB", 10**9), ("7B", 7), (12, 12), (12.0, 12)],
)
def test_a_size_is_read(value: object, size: int) -> None:
    assert read_size(value) == size


@pytest.mark.parametrize(
    "value", ["200", "1.5B", 0.5, "200mb", "32M", "-1MB", -1, True, "2000TB", float("nan"), 10**400]
)
def test_what_is_no_size_or_a_senseless_one_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"is not a size; write|is out of range; choose"):
        read_size(value)


@given(st.one_of(st.floats(0, 31_622_400), st.integers(0, 31_622_400).map(float)))
def test_a_duration_that_is_shown_is_read_back_to_the_last_bit(seconds: float) -> None:
    assert read_duration(duration_text(seconds)) == seconds


@given(st.one_of(st.integers(0, 10**15), st.integers(0, 900).map(lambda count: count * 1024**4)))
def test_a_size_that_is_shown_is_read_back(size: int) -> None:
    assert read_size(size_text(size)) == size


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "500ms"), (90, "90s"), (900, "15m"), (86_400, "1d"), (0.00001, 1e-5)]
)
def test_a_duration_is_shown_in_the_largest_unit_that_fits(seconds: float, text: object) -> None:
    assert duration_text(seconds) == text


# What one lane gets


def test_a_lane_without_a_section_has_the_defaults_over_the_sections() -> None:
    lane = parsed(EVERYTHING).lane(INBOX_LANE)

    assert (lane.name, lane.model, lane.max_tokens, lane.header) == ("_", "claude-opus-5-5", 200_000, "auto")
    assert (lane.effort, lane.temperature, lane.system) == ("high", 1.0, "Two\nlines.")
    assert (lane.max_attempts, lane.window.max_requests, lane.output_extension) == (3, 10_000, "txt")


def test_a_lane_overrides_what_it_names_and_inherits_the_rest_key_by_key() -> None:
    lane = parsed(EVERYTHING).lane(Lane("reports"))

    assert (lane.model, lane.max_tokens, lane.header) == ("claude-haiku-4-5-20251001", 64_000, "off")
    assert (lane.window.max_requests, lane.window.max_wait, lane.max_attempts) == (5, 1.5, 1)
    assert (lane.effort, lane.thinking, lane.output_extension) == ("high", {"type": "adaptive"}, "txt")


def test_betas_of_a_lane_replace_those_of_the_defaults_but_never_those_of_every_batch() -> None:
    settings = parsed(EVERYTHING)

    assert settings.lane(Lane("reports")).betas == ("files-api-2025-04-14",)
    assert settings.lane(INBOX_LANE).betas == ("files-api-2025-04-14", "a-1")


@pytest.mark.parametrize("name", ["reports", "REPORTS", "Reports"])
def test_a_lane_is_found_without_case_and_keeps_its_folder_s_spelling(name: str) -> None:
    lane = parsed(EVERYTHING).lane(Lane(name))

    assert (lane.name, lane.max_attempts) == (name, 1)


def test_a_name_that_is_no_ascii_word_can_be_a_lane() -> None:
    assert parsed(EVERYTHING).lane(Lane("żółw & co")).output_extension == "html"


def test_the_window_may_be_of_no_wait_but_not_of_no_request() -> None:
    assert parsed("[lanes.now.window]\nmax_wait = 0").lane(Lane("now")).window.max_wait == 0
    assert problems_of(PATHS + "[lanes.now.window]\nmax_requests = 0") == [
        "config.toml: [lanes.now.window] max_requests: must be at least 1; it is 0"
    ]


def test_without_a_default_model_the_file_is_read_but_the_daemon_is_told_what_is_missing() -> None:
    assert parsed('[defaults]\nmodel = "claude-opus-5-5"').missing_to_run() == []
    assert [line.split(":")[0] for line in parsed("").missing_to_run()] == ["[defaults] model"]


def test_models_in_the_file_change_the_catalogue() -> None:
    settings = parsed('[models."claude-x.1"]\ncap = 100\n[models.claude-opus-5-5]\ninput_usd = 7')

    catalogue = settings.catalogue()

    assert catalogue.cap("claude-x.1") == 100
    assert catalogue.models["claude-opus-5-5"].input_usd == 7
    assert catalogue.cap("claude-opus-5-5") == 300_000


def test_every_fact_of_the_catalogue_has_its_key() -> None:
    assert set(ModelKeys.model_fields) == {field.name for field in fields(ModelFacts)}


# Problems


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        # Single values
        ("[window]\nmax_requests = 100001", "[window] max_requests: must be at most 100000; it is 100001"),
        ("[window]\nmax_requests = true", "[window] max_requests: must be a whole number, written without quotes"),
        ("[window]\nmax_requests = 1.0", "[window] max_requests: must be a whole number, written without quotes"),
        ('[window]\nmax_bytes = "251MB"', "[window] max_bytes: is over 250MB; choose less"),
        ('[window]\nmax_bytes = "0B"', "[window] max_bytes: must be more than 0"),
        ('[window]\nmax_wait = "a minute"', '[window] max_wait: is not a duration; write it like "90s"'),
        ("[poll]\nfirst = 0", "[poll] first: must be more than 0"),
        ("[poll]\nfactor = 0.9", "[poll] factor: must be at least 1.0; it is 0.9"),
        ("[poll]\nfactor = nan", "[poll] factor: must be at most 1000.0; it is nan"),
        ('[poll]\nfactor = "2"', "[poll] factor: must be a number, written without quotes"),
        ("[inbox]\nquiet = -1", "[inbox] quiet: is out of range; choose a duration"),
        ('[inbox]\nmax_file_bytes = "1GB"', "[inbox] max_file_bytes: is over 250MB"),
        ('[inbox]\ndetection = "poll"', "[inbox] detection: must be 'auto', 'events' or 'scan'; it is poll"),
        ("[inbox]\nmax_pending = 0", "[inbox] max_pending: must be at least 1; it is 0"),
        ('[outbox]\non_existing = "overwrite"', "[outbox] on_existing: must be 'suffix' or 'replace'; it is overwrite"),
        ("[defaults]\ntemperature = 1.1", "[defaults] temperature: must be at most 1.0; it is 1.1"),
        ("[defaults]\nthinking = true", "[defaults] thinking: must be a table of keys and values"),
        ("[defaults]\nthinking = { since = 2026-01-01 }", "[defaults] thinking: holds a date"),
        ('[defaults]\nsystem = "  "', "[defaults] system: is empty; fill it in"),
        ('[defaults]\nmodel = "claude opus"', "[defaults] model: must be one word without spaces"),
        ("[defaults]\nmodel = 5", "[defaults] model: must be a text in quotes"),
        ('[defaults]\nbetas = "one"', "[defaults] betas: must be a list"),
        ('[defaults]\nbetas = ["a", "b,c"]', "[defaults] betas, entry 2: is no beta's name"),
        ('[api]\nbetas = ["a\\r\\nx-evil: 1"]', "[api] betas, entry 1: is no beta's name"),
        ('[defaults]\noutput.extension = "json"', '[defaults.output] extension: must not be "json"'),
        ('[defaults]\noutput.extension = ".md"', "[defaults.output] extension: must be 1 to 8 small letters"),
        ('[lanes.a.output]\nextension = "toolonger"', "[lanes.a.output] extension: must be 1 to 8 small letters"),
        ('[lanes.a]\nheader = "on"', "[lanes.a] header: must be 'auto' or 'off'; it is on"),
        ("[lanes]\na = 1", "[lanes.a]: must be a table of keys and values"),
        ('[limits]\nallow = ["files"]', "[limits] allow, entry 1: must be 'file_id', 'container' or 'mcp_servers'"),
        ("[limits]\nmodels = []", "[limits] models: is empty, which would forbid every model"),
        ('[models."x.1"]\ninput_usd = -1', '[models."x.1"] input_usd: is out of range'),
        ('[models.x]\ninput_usd = "1"', "[models.x] input_usd: must be a number"),
        (f"[models.x]\ninput_usd = {10**400}", "[models.x] input_usd: is out of range"),
        (f"[window]\nmax_requests = {10**400}", "[window] max_requests: must be at most 100000"),
        (f"[defaults]\ntemperature = {10**400}", "[defaults] temperature: "),
        ("[models.x]\ninput_usd = nan", "[models.x] input_usd: must be a number"),
        ("[retention]\ndone_days = -1", "[retention] done_days: must be at least 0; it is -1"),
        ('[log]\nlevel = "trace"', "[log] level: must be 'debug', 'info', 'warning' or 'error'; it is trace"),
        ('[api]\nkey_file = "key"', "[api] key_file: is a relative path"),
        ("[api]\nca_file = 1", "[api] ca_file: must be a path in quotes"),
        # Unknown keys
        ("[window]\nmax_request = 1", "[window] max_request: is not a known key; did you mean max_requests?"),
        ("[widow]\nmax_wait = 1", "[widow]: is not a known section; did you mean window?"),
        (
            "[defaults]\nmax_attempts = 1",
            "[defaults] max_attempts: is not a known key here; it belongs in [lanes] or [retry]",
        ),
        ("[defaults.window]\nmax_wait = 1", "[defaults] window: is not a known key here; it belongs in [window]"),
        (
            '[lanes.a]\nextension = "txt"',
            "[lanes.a] extension: is not a known key here; it belongs in [lanes.a.output]",
        ),
        ("[lanes.a.window]\nmax_waits = 1", "[lanes.a.window] max_waits: is not a known key; did you mean max_wait?"),
        ('[limits]\nmodel = "x"', "[limits] model: is not a known key; did you mean models?"),
        ("[outbox]\nzzz = 1", "[outbox] zzz: is not a known key; known here: on_existing"),
        # Values that must agree
        ('[poll]\nfirst = "11m"', "[poll] first: is longer than max; shorten it or raise max"),
        ('[retry]\nmax = "1s"', "[retry] first: is longer than max; shorten it or raise max"),
        (
            '[defaults]\nmodel = "m"\n[limits]\nmodels = ["n"]',
            "[defaults] model: m is not among [limits] models; add it there",
        ),
        (
            '[lanes.a]\nmodel = "m"\n[limits]\nmodels = ["n"]',
            "[lanes.a] model: m is not among [limits] models; add it there",
        ),
        (
            "[lanes.a]\nmax_tokens = 9\n[limits]\nmax_tokens = 8",
            "[lanes.a] max_tokens: 9 is over [limits] max_tokens, 8",
        ),
        (
            "[defaults]\nmax_tokens = 9\n[limits]\nmax_tokens = 8",
            "[defaults] max_tokens: 9 is over [limits] max_tokens, 8",
        ),
        (
            '[defaults]\nmodel = "claude-haiku-4-5"\nmax_tokens = 64001',
            "[defaults] max_tokens: asks claude-haiku-4-5 for 64001 tokens, but it writes 64000 at most in a batch",
        ),
        (
            '[defaults]\nmax_tokens = 300000\n[lanes.a]\nmodel = "claude-opus-4-5"',
            "[lanes.a] model: asks claude-opus-4-5 for 300000 tokens, but it writes 64000 at most",
        ),
        (
            '[defaults]\nmodel = "x"\n[lanes.a]\nmax_tokens = 11\n[models.x]\ncap = 10',
            "[lanes.a] max_tokens: asks x for 11 tokens, but it writes 10 at most",
        ),
        ("[models.x]\ncap = 10\nextended = 9", "[models.x] extended: is under cap, 10; leave it out or raise it"),
        (
            "[models.x]\nlong_prompt_tokens = 9",
            "[models.x]: long_prompt_tokens, long_input_usd and long_output_usd belong",
        ),
        # Lanes' names
        ("[lanes._a]", "[lanes._a]: can be no folder in the inbox that is read"),
        ('[lanes.".a"]', '[lanes.".a"]: can be no folder in the inbox that is read'),
        ('[lanes."~a"]', '[lanes."~a"]: can be no folder in the inbox that is read'),
        ('[lanes.""]', '[lanes.""]: can be no folder in the inbox that is read'),
        ('[lanes."a/b"]', '[lanes."a/b"]: can be no folder: a lane is one folder right in the inbox'),
        ('[lanes."a.Bundle"]', '[lanes."a.Bundle"]: can be no lane: a folder whose name ends in .bundle'),
        ("[lanes.a]\n[lanes.A]", '[lanes.A]: is the same lane as "a"'),
    ],
)
def test_a_problem_names_its_place_the_fact_and_the_way_out(text: str, problem: str) -> None:
    (found,) = problems_of(PATHS + text)

    assert found.startswith(f"config.toml: {problem}")


@pytest.mark.parametrize(
    ("root", "state", "problem"),
    [
        ("/srv/b", "/srv/b", "[paths] state: lies in root"),
        ("/srv/b", "/srv/b/state", "[paths] state: lies in root"),
        ("/srv/b/root", "/srv/b", "[paths] state: holds root"),
        ("srv/b", "/var/b", "[paths] root: is a relative path"),
        ("/srv/../var/b", "/var/b", '[paths] root: must not hold ".."'),
        ("", "/var/b", "[paths] root: must be a path in quotes"),
        ("/srv/b", "/var/\\u0000b", "[paths] state: must be a path in quotes"),
    ],
)
def test_root_and_state_must_be_two_absolute_places(root: str, state: str, problem: str) -> None:
    (found,) = problems_of(f'[paths]\nroot = "{root}"\nstate = "{state}"')

    assert found.startswith(f"config.toml: {problem}")


def test_a_state_beside_a_root_of_a_similar_name_is_no_problem() -> None:
    settings = parse_settings('[paths]\nroot = "/srv/b"\nstate = "/srv/b-state"', source="config.toml")

    assert settings.paths.state == Path("/srv/b-state")


@pytest.mark.parametrize(
    ("url", "fact"),
    [
        ("http://api.anthropic.com", "must begin with https://"),
        ("http://127.0.0.1.example.com", "must begin with https://"),
        ("http://localhost.example.com", "must begin with https://"),
        ("http://128.0.0.1", "must begin with https://"),
        ("http://[::2]", "must begin with https://"),
        ("http://0.0.0.0:80", "must begin with https://"),
        ("https://key-hunter2@example.com", "must not hold a user name or password"),
        ("http://127.0.0.1:hunter2@example.com", "must not hold a user name or password"),
        ("http://127.0.0.1\\\\@hunter2.example.com", "must not hold spaces, backslashes"),
        ("https://example.com/?key=hunter2", "must not have a query or a fragment"),
        ("https://example.com/#hunter2", "must not have a query or a fragment"),
        ("https://example.com/?", "must not have a query or a fragment"),
        ("https://exam\\nple.com", "must not hold spaces, backslashes"),
        ("https://example.com:hunter2", "is not an address; check its host and port"),
        ("https://[::1", "is not an address; check its host and port"),
        ("https://example.com:0", "is not an address; write it like"),
        ("ftp://example.com", "is not an address; write it like"),
        ("api.anthropic.com", "is not an address; write it like"),
        ("https://", "is not an address; write it like"),
        ("", "is not an address; write it like"),
    ],
)
def test_an_address_that_would_leak_or_mislead_is_refused_without_repeating_it(url: str, fact: str) -> None:
    (found,) = problems_of(f'{PATHS}[api]\nbase_url = "{url}"')

    assert found.startswith(f"config.toml: [api] base_url: {fact}")
    assert "hunter2" not in found


@pytest.mark.parametrize(
    "url",
    [
        "https://api.anthropic.com",
        "https://gateway.example.com:8443/claude",
        "http://localhost:1",
        "http://127.9.9.9",
        "http://[::1]:8080",
        "HTTP://LOCALHOST",
    ],
)
def test_https_anywhere_and_plain_http_on_this_machine_are_addresses(url: str) -> None:
    assert parsed(f'[api]\nbase_url = "{url}"').api.base_url == url


@pytest.mark.parametrize("proxy", ["socks5://h:1", "proxy.example.com:3128", "http://u:hunter2 @h", "http://h:hunter2"])
def test_a_proxy_that_is_no_address_is_refused_without_repeating_it(proxy: str) -> None:
    (found,) = problems_of(f'{PATHS}[api]\nproxy = "{proxy}"')

    assert found.startswith("config.toml: [api] proxy: ")
    assert "hunter2" not in found


def test_all_problems_are_told_at_once_those_between_values_too() -> None:
    text = """
        [paths]
        root = "here"
        [window]
        max_requests = 0
        max_wait = "soon"
        [poll]
        factor = 0
        first = "20m"
        [lanes.a.window]
        max_wait = true
        [lanes.A]
        model = 5
        [lanes._b]
        [models.x]
        cap = "much"
        """

    problems = problems_of(text)

    assert [problem.split(": ")[1] for problem in problems] == [
        "[paths] root",
        "[paths] state",
        "[window] max_requests",
        "[window] max_wait",
        "[poll] factor",
        "[lanes.a.window] max_wait",
        "[lanes.A] model",
        "[models.x] cap",
        "[poll] first",
        "[lanes.A]",
        "[lanes._b]",
    ]


def test_a_value_is_not_judged_by_another_that_is_wrong_itself() -> None:
    """Otherwise the default that stands in for a misspelt `max` would be quarrelled with."""
    text = '[defaults]\nmodel = "claude-opus-5-5"\nmax_tokens = 400000\n[models.claude-opus-5-5]\nextended = "500000"'

    assert len(problems_of(PATHS + '[poll]\nfirst = "20m"\nmax = "30 mins"')) == 1
    assert len(problems_of(PATHS + '[poll]\nfirst = "1 min"\nmax = "30s"')) == 1
    assert len(problems_of(PATHS + text)) == 1
    assert len(problems_of('[paths]\nroot = "/stand-in"\nstate = ""')) == 1


@pytest.mark.parametrize("section", ["paths", "api", "lanes", "models", "limits"])
def test_a_section_that_is_no_table_is_told_as_such(section: str) -> None:
    problems = problems_of(f"{section} = 3")

    assert f"config.toml: [{section}]: must be a table of keys and values" in problems


def test_without_any_section_the_paths_are_asked_for_key_by_key() -> None:
    assert problems_of("") == [
        "config.toml: [paths] root: is missing; add it",
        "config.toml: [paths] state: is missing; add it",
    ]


@pytest.mark.parametrize("text", ["[paths]\nroot = \n", "root = 1\nroot = 2\n", "x = " + "9" * 5000])
def test_what_is_not_toml_is_told_with_its_line(text: str) -> None:
    (found,) = problems_of(text)

    assert found.startswith("config.toml: is not valid TOML: ")
    assert "line" in found or "digits" in found


def test_the_error_ends_the_process_so_that_it_is_not_restarted() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_settings("", source="config.toml")

    assert caught.value.exit_code is ExitCode.CONFIGURATION


def test_no_value_is_repeated_that_could_be_a_secret_not_even_by_the_cause() -> None:
    text = (
        PATHS
        + '[api]\nkey = "hunter2"\nproxy = "hunter2"\nworkspace_id = "hunter2 x"\n[defaults]\nmax_tokens = "hunter2"'
    )

    with pytest.raises(ConfigurationError) as caught:
        parse_settings(text, source="config.toml")

    assert len(caught.value.problems) == 4
    assert "hunter2" not in str(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


VALUES = st.recursive(
    st.one_of(st.none().map(lambda _: {}), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.dates()),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=9), inner, max_size=2)),
    max_leaves=3,
)
SCHEMA_KEYS = sorted(set(re.findall(r"^(?:# )?(\w+) = ", EXAMPLE, re.MULTILINE)))


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*Settings.model_fields, "other"]),
        st.one_of(VALUES, st.dictionaries(st.sampled_from([*SCHEMA_KEYS, "x", "window"]), VALUES, max_size=4)),
        max_size=5,
    )
)
def test_whatever_toml_can_hold_ends_as_settings_or_as_sentences(table: dict[str, Any]) -> None:
    text = tomli_w.dumps(table)

    problems = problems_or_none(text)

    assert all(re.match(r"config\.toml: (\[.+\]|is not valid TOML)", problem) for problem in problems)


# Warnings


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ('[poll]\nfirst = "59s"', ["[poll] first"]),
        ('[poll]\nfirst = 0.1\n[api]\nbase_url = "http://127.0.0.1:9"', []),
        ('[poll]\nfirst = 0.1\n[api]\nbase_url = "https://localhost"', []),
        ('[inbox]\nmax_file_bytes = "33MB"', ["[inbox] max_file_bytes"]),
        ('[defaults]\nmodel = "new"', ["[defaults] model", "[defaults] model"]),
        ('[defaults]\nmodel = "new"\nmax_tokens = 5', ["[defaults] model"]),
        ('[defaults]\nmodel = "new"\nmax_tokens = 5\n[models.new]\ninput_usd = 1\noutput_usd = 1', []),
        ('[defaults]\nmodel = "new"\n[models.new]\ncap = 1', ["[defaults] model"]),
        ('[lanes.a]\nmodel = "new"\n[defaults]\nmax_tokens = 5', ["[lanes.a] model"]),
        ('[limits]\nmodels = ["claude-opus-5-5", "claude-opus-55"]', ["[limits] models, entry 2"]),
        ('[defaults]\nmodel = "claude-opus-4-5-20251101"', []),
    ],
)
def test_what_is_probably_not_meant_is_told_with_its_place(text: str, places: list[str]) -> None:
    assert [warning.split(": ")[0] for warning in warnings(parsed(text))] == places


# What is shown


def test_the_settings_in_effect_are_a_configuration_of_the_same_meaning() -> None:
    before = parsed(EVERYTHING.replace("someone:hunter2@", ""))

    after = parse_settings(as_toml(before), source="shown")

    assert after == before


def test_the_settings_in_effect_show_no_password() -> None:
    settings = parsed(EVERYTHING)

    assert as_mapping(settings)["api"]["proxy"] == "http://***@proxy.example.com:3128"
    assert "hunter2" not in as_toml(settings) + repr(settings)
    assert settings.api.proxy == "http://someone:hunter2@proxy.example.com:3128"


def test_the_settings_in_effect_are_written_as_people_write_them() -> None:
    shown = as_mapping(parsed(EVERYTHING))

    assert shown["window"] == {"max_requests": 10_000, "max_bytes": "32MiB", "max_wait": "1500ms"}
    assert shown["models"]["claude-x.1"] == {"cap": 100, "input_usd": 0.05}
    assert shown["paths"]["root"] == "/srv/batchbox"
    assert "rescan" not in shown["inbox"]


# The example


def uncommented(text: str) -> str:
    return re.sub(r"^# (?=\w+ = |\[)", "", text, flags=re.MULTILINE)


def leaves(table: Mapping[str, Any], *above: str) -> Iterator[tuple[tuple[str, ...], object]]:
    for key, value in table.items():
        if isinstance(value, dict) and key != "thinking":
            yield from leaves(value, *above, key)
        else:
            yield (*above, key), value


def schema_keys(model: type[BaseModel], *above: str) -> Iterator[tuple[str, ...]]:
    """Every key that the file may hold; the names of lanes and models are `*`."""
    for name, field in model.model_fields.items():
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        table = next((kind for kind in kinds if issubclass(kind, BaseModel)), None)
        if table is None:
            yield (*above, name)
        else:
            yield from schema_keys(table, *above, name, *(["*"] if name in ("lanes", "models") else []))


def test_the_example_is_a_configuration_without_a_warning_as_it_stands_and_with_every_line_in_force() -> None:
    for text in (EXAMPLE, uncommented(EXAMPLE)):
        settings = parse_settings(text, source="config.example.toml")

        assert warnings(settings) == []


def test_the_example_shows_every_key_and_no_other() -> None:
    shown = tomllib.loads(uncommented(EXAMPLE))

    keys = {(path[0], "*", *path[2:]) if path[0] in ("lanes", "models") else path for path, _ in leaves(shown)}

    assert keys == set(schema_keys(Settings))


def test_the_example_s_values_in_force_are_the_built_in_defaults() -> None:
    shown = dict(leaves(tomllib.loads(EXAMPLE)))

    assert parse_settings(EXAMPLE, source="example") == parsed("")
    assert set(shown) >= {path for path, _ in leaves(as_mapping(parsed(""))) if path[0] not in ("lanes", "models")}


def test_the_example_explains_every_key_right_above_it() -> None:
    lines = EXAMPLE.splitlines()

    bare = [
        line
        for above, line in pairwise(lines)
        if re.match(r"(# )?\w+ = ", line) and not re.match(r"# [A-Z].*\.$", above)
    ]

    assert bare == []
