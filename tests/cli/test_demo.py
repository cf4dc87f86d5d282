"""The demo as a newcomer meets it: in a process of its own, with an environment that says nothing."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import pytest

from batchbox.cli.demo.documents import ANSWER_COUNT, DOCUMENTS
from batchbox.cli.demo.ending import tell_ending
from batchbox.cli.demo.story import Story, size_in_words
from batchbox.errors import BatchboxError
from batchbox.folders.layout import make_root
from forking import Child, ForkServer

COMMAND = (sys.executable, "-m", "batchbox", "demo")
SECONDS_MAX = 50
LOADING = "This is batchbox"
"""What it says before its imports."""
STEPS = ("dropped", "taken", "rejected", "sent", "accepted", "ended", "answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A demo that has ended."""

    code: int
    output: str
    errors: str
    root: Path


def environment(temporary: Path, **more: str) -> Mapping[str, str]:
    """Return an environment without a home, a key or a terminal, and with traps for whoever looks further."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(temporary / "no-home"),
        "TMPDIR": str(temporary),
        "BATCHBOX_CONFIG": str(temporary / "no-config"),
        "HTTP_PROXY": "http://127.0.0.1:1",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:1",
        "ANTHROPIC_LOG": "debug",
        **more,
    }


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Play the demo to its end with --keep."""
    temporary = tmp_path_factory.mktemp("kept")
    done = subprocess.run(
        [*COMMAND, "--keep"],
        env=environment(temporary),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    (folder,) = temporary.iterdir()
    return Played(code=done.returncode, output=done.stdout.decode(), errors=done.stderr.decode(), root=folder / "share")


@dataclass(slots=True, kw_only=True)
class Started:
    """A demo under way, with the other ends of its standard streams."""

    child: Child
    output: TextIO
    errors: TextIO

    def read_until(self, word: str) -> None:
        """Read lines of the output until the word is in one."""
        assert any(word in line for line in self.output), f"the demo ended before it said {word!r}"

    def end(self) -> tuple[int, str]:
        """Read on to the end; return the exit code and what was written to the standard error."""
        self.output.read()
        return self.child.wait(timeout_seconds=SECONDS_MAX), self.errors.read()


@contextmanager
def started(forks: ForkServer, temporary: Path, *, anew: bool = False) -> Iterator[Started]:
    """Start the demo; it does not outlive the block."""
    output, their_output = os.pipe()
    errors, their_errors = os.pipe()
    child = forks.spawn(
        ["demo"],
        program=COMMAND[:-1] if anew else None,
        environment=environment(temporary),
        cwd=temporary,
        stdout=their_output,
        stderr=their_errors,
    )
    os.close(their_output)
    os.close(their_errors)
    with open(output) as output_file, open(errors) as errors_file:
        try:
            yield Started(child=child, output=output_file, errors=errors_file)
        finally:
            child.kill()


def test_it_ends_well_and_has_nothing_to_complain_about(kept: Played) -> None:
    assert kept.code == 0
    assert kept.errors == ""


def test_it_tells_every_step_of_the_way_in_its_order(kept: Played) -> None:
    told = [line.split()[2] for line in kept.output.splitlines() if line[5:7] == " s"]

    assert set(told) == set(STEPS)
    assert [step for step in dict.fromkeys(told) if step != "rejected"] == [s for s in STEPS if s != "rejected"]
    assert told.count("dropped") == len(DOCUMENTS)
    assert told.count("taken") == len(DOCUMENTS) - 1
    assert told.count("answer") == ANSWER_COUNT


def test_every_document_that_is_sound_ends_in_the_outbox_and_the_broken_one_beside_its_explanation(
    kept: Played,
) -> None:
    assert sorted(path.name for path in kept.root.joinpath("rejected").iterdir()) == [
        "orders.json",
        "orders.json.error.txt",
    ]
    assert len([*kept.root.joinpath("outbox").rglob("*.result.json")]) == ANSWER_COUNT
    assert {str(path.relative_to(kept.root / "done")) for path in kept.root.joinpath("done").rglob("*.*")} == {
        document.name for document in DOCUMENTS if document.request_count
    }


def test_headers_lane_settings_and_the_longest_answer_have_their_effect(kept: Played) -> None:
    results = {path.name: json.loads(path.read_bytes()) for path in kept.root.joinpath("outbox").rglob("*.result.json")}

    assert results["minutes-of-may.result.json"]["model"] == "claude-sonnet-5"
    assert results["chapter-1.result.json"]["lane"] == "translations"
    assert results["chapter-1.result.json"]["model"] == "claude-sonnet-5"
    assert results["handbook.result.json"]["usage"]["output_tokens"] == 300_000


def test_it_says_that_answers_are_simulated_what_they_would_have_cost_and_where_the_folder_is(kept: Played) -> None:
    assert "no model in the answers" in kept.output
    assert "$3.00 in batches; $6.01 at the standard price" in kept.output
    assert "trailing comma" in kept.output
    assert "batchbox init" in kept.output
    assert str(kept.root.parent) in kept.output


def test_where_no_terminal_is_there_are_plain_lines_of_eighty_columns_at_most(kept: Played) -> None:
    lines = kept.output.replace(str(kept.root.parent), "").splitlines()

    assert all(line.isascii() and line.isprintable() for line in lines)
    assert max(len(line) for line in lines) <= 80


def test_without_keep_nothing_is_left_behind_even_if_the_reader_leaves_early(forks: ForkServer, tmp_path: Path) -> None:
    with started(forks, tmp_path) as demo:
        demo.read_until("accepted")

        demo.output.close()
        code = demo.child.wait(timeout_seconds=SECONDS_MAX)

        assert (code, demo.errors.read()) == (1, "")
    assert [*tmp_path.iterdir()] == []


def test_after_success_the_folder_is_gone(forks: ForkServer, tmp_path: Path) -> None:
    with started(forks, tmp_path) as demo:
        demo.read_until("dropped")
        folders = [*tmp_path.iterdir()]
        code, errors = demo.end()

    assert len(folders) == 1
    assert (code, errors) == (0, "")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("number", "moment", "code"),
    [
        pytest.param(signal.SIGINT, LOADING, 130, id="Ctrl-C while it is being loaded"),
        pytest.param(signal.SIGINT, "dropped", 130, id="Ctrl-C as the first file is dropped"),
        pytest.param(signal.SIGINT, "accepted", 130, id="Ctrl-C while a batch is being processed"),
        pytest.param(signal.SIGTERM, "accepted", 143, id="SIGTERM while a batch is being processed"),
    ],
)
def test_a_signal_ends_it_politely_with_nothing_left(
    forks: ForkServer, tmp_path: Path, number: signal.Signals, moment: str, code: int
) -> None:
    with started(forks, tmp_path, anew=moment == LOADING) as demo:
        demo.read_until(moment)
        demo.child.send_signal(number)
        ended, errors = demo.end()

    assert (ended, errors) == (code, "batchbox demo: interrupted.\n")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_a_package_that_is_not_installed_is_named_in_a_sentence(tmp_path: Path, package: str) -> None:
    program = f"import sys; sys.modules[{package!r}] = None; from batchbox.cli import main; main()"

    done = subprocess.run(
        [sys.executable, "-c", program, "demo"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.startswith(f"batchbox: the demo needs the Python package {package}, which is not installed.")
    assert "Traceback" not in done.stderr
    assert [*tmp_path.iterdir()] == []


def test_naming_the_command_loads_nothing_that_takes_time() -> None:
    program = "import sys, batchbox.cli.demo; print([*{'anthropic', 'pydantic', 'starlette'} & {*sys.modules}])"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_an_ending_without_its_answers_is_an_error(tmp_path: Path) -> None:
    make_root(tmp_path)

    with pytest.raises(BatchboxError, match=f"0 of {ANSWER_COUNT} answers"):
        tell_ending(tmp_path, first_answer_seconds=None)


def test_the_story_passes_on_warnings_that_it_does_not_know_and_no_other_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    story = Story(tmp_path, pytest.fail)

    for level in (logging.INFO, logging.WARNING):
        story.handle(
            logging.makeLogRecord({"msg": "poll failed", "levelno": level, "levelname": "WARNING", "why": "no"})
        )

    assert capsys.readouterr().out == "warning poll failed why=no\n"


def test_a_name_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Story(tmp_path, pytest.fail).say("taken", "inbox/\x1b[2J.md")

    assert "\x1b[2J" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("size_bytes", "words"), [(0, "0 bytes"), (999, "999 bytes"), (1_000, "1.0 KB"), (1_234_567, "1.2 MB")]
)
def test_sizes_are_told_as_people_read_them(size_bytes: int, words: str) -> None:
    assert size_in_words(size_bytes) == words
