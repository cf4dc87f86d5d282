"""A file that is parsed in a process of its own comes back as it would from this one, or its death does."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping

import anyio
import pytest

from batchbox.alone.parent import lonely_parser, parse_alone
from batchbox.errors import RejectedError
from batchbox.formats import Draft, JsonLinesParser, Rules, parse_file
from formats.bench import RULES, rules
from suites.mutants import SOURCE, Mutation, plant

UNDER = rules(
    effort="low",
    system="s",
    betas=("b",),
    temperature=0.5,
    thinking={"type": "adaptive"},
    models=("claude-opus-5", "claude-haiku-4-5"),
    allow=frozenset({"file_id"}),
    max_tokens_limit=200_000,
)
SECRET = "sk-ant-canary-key"  # noqa: S105 - a word to look for, not a password

MAGIC = Mutation(
    name="a parser that dies of some words",
    file="formats/text.py",
    before='    text = to_utf8(data).decode("utf-8")\n',
    after="""    text = to_utf8(data).decode("utf-8")
    import os, resource, time
    match text.strip():
        case "die":
            os.kill(os.getpid(), 11)
        case "be killed":
            os.kill(os.getpid(), 9)
        case "raise":
            raise KeyError(text)
        case "eat":
            hoard = [bytearray(1 << 20) for _ in range(10_000)]
        case "spin":
            resource.setrlimit(resource.RLIMIT_CPU, (0, resource.getrlimit(resource.RLIMIT_CPU)[0]))
            while True:
                pass
        case "sleep":
            time.sleep(3600)
        case "tell":
            limits = [resource.getrlimit(what)[0] for what in (resource.RLIMIT_AS, resource.RLIMIT_CPU)]
            text = repr([dict(os.environ), limits])
""",
)

TRY = """
import anyio, json, sys
from batchbox.alone import parent
from formats.bench import RULES
parent.ANSWER_SECONDS_MAX = 8.0
async def try_one(words, outcomes):
    try:
        (draft,) = await parent.parse_alone("a.md", words.encode(), RULES)
        outcomes[words] = json.loads(draft.params)["messages"][0]["content"]
    except parent.DeathError as death:
        outcomes[words] = [str(death), death.may_be_from_outside]
async def try_without_package(outcomes):
    parent.ENVIRONMENT.clear()
    parent.PROGRAM = (sys.executable, "-c", "import batchbox_that_is_being_replaced")
    try:
        await parent.parse_alone("a.md", b"hello", RULES)
    except ChildProcessError as error:
        outcomes["no package"] = str(error)
async def try_all():
    outcomes = {}
    async with anyio.create_task_group() as tries:
        for words in sys.argv[1:]:
            tries.start_soon(try_one, words, outcomes)
    await try_without_package(outcomes)
    return outcomes
print(json.dumps(anyio.run(try_all)))
"""


async def outcome_alone(name: str, data: bytes, under: Rules) -> list[Draft] | tuple[str, str, str]:
    try:
        return list(await parse_alone(name, data, under))
    except RejectedError as error:
        return error.reason, error.detail, error.what_to_do


def outcome_here(name: str, data: bytes, under: Rules) -> list[Draft] | tuple[str, str, str]:
    try:
        return parse_file(name, data, under)
    except RejectedError as error:
        return error.reason, error.detail, error.what_to_do


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.md", b"a question"),
        (os.fsdecode(b"caf\xe9.md"), b"+++\nmodel = 'claude-haiku-4-5'\n+++\na question"),
        ("b.json", b'{"requests": [{"messages": [1]}, {"custom_id": "x", "params": {"messages": [2]}}]}'),
        ("c.jsonl", b'{"messages": [1], "max_tokens": 7}\n{"messages": [2]}\n'),
        ("d.json", b'{"messages": [1], "model": "another"}'),
        ("e.md", b""),
    ],
)
async def test_alone_a_file_means_what_it_means_here(name: str, data: bytes) -> None:
    """Names that are no text, caps, limits and every rule of the lane reach the child."""
    alone = await outcome_alone(name, data, UNDER)

    assert alone == outcome_here(name, data, UNDER)


async def test_a_long_file_is_told_in_pieces() -> None:
    pieces = [b'{"messages": [1]}\n{"mess', b'ages": [2]}\n', b'{"messages": [3]}']
    here = JsonLinesParser("a.jsonl", RULES)
    expected = [*(here.feed(piece) for piece in pieces), here.finish()]

    async with lonely_parser("a.jsonl", RULES, is_long=True) as parser:
        alone = [list(await parser.feed(piece)) for piece in pieces]
        alone.append(list(await parser.finish()))

    assert alone == expected


async def test_the_child_ends_with_whoever_waits_for_it() -> None:
    """A stop in the middle leaves no process behind."""
    with anyio.CancelScope() as scope:
        async with lonely_parser("a.jsonl", RULES, is_long=True) as parser:
            process = parser._process
            scope.cancel()
            await parser.feed(b'{"messages": [1]}\n')

    assert process.returncode is not None


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, object]:
    """Let a parser that dies of some words meet them, each in a process of its own; return what came of it."""
    source = plant(MAGIC, tmp_path_factory.mktemp("planted"))
    words = ["die", "be killed", "raise", "eat", "spin", "sleep", "tell", "hello"]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{source}:{SOURCE.parent / 'tests'}",
        "ANTHROPIC_API_KEY": SECRET,
    }
    done = subprocess.run(
        [sys.executable, "-c", TRY, *words], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    outcomes: dict[str, object] = json.loads(done.stdout)
    return outcomes


@pytest.mark.parametrize(
    ("words", "how", "from_outside"),
    [
        ("die", "the parser was ended by SIGSEGV", False),
        ("be killed", "the parser was ended by SIGKILL", True),
        ("raise", "the parser ended with exit code 1", False),
        ("eat", "the parser ended with exit code 1", False),
        ("spin", "the parser was ended by SIGXCPU", False),
        ("sleep", "the parser had no result after 8 s", False),
    ],
)
def test_a_child_that_dies_is_told_from_one_that_may_have_been_killed(
    told: Mapping[str, object], words: str, how: str, from_outside: bool
) -> None:
    """By a signal, an error, too much memory, computing for ever, or doing nothing at all."""
    assert told[words] == [how, from_outside]


def test_the_child_has_bounds_and_no_secrets(told: Mapping[str, object]) -> None:
    variables, limits = eval(str(told["tell"]))  # noqa: S307 - our own repr

    assert variables.keys() <= {"PYTHONPATH", "LC_CTYPE"}
    assert limits == [768 * 1024 * 1024, 120]


def test_a_parser_that_has_nothing_to_die_of_answers(told: Mapping[str, object]) -> None:
    assert told["hello"] == "hello"


def test_a_child_that_cannot_start_is_not_the_files_fault(told: Mapping[str, object]) -> None:
    """Such as while the program is replaced by a newer one: the file waits."""
    assert told["no package"] == "the parser did not start: the parser ended with exit code 1"
