"""Every hostile file gets what it deserves, its neighbours are answered, and nobody learns what is not theirs.

The short form leaves out what is large, and logs as text or as JSON from one commit to the next.
"""

import json
import os
import re
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from batchbox.logs import shown
from batchbox.simulator import serve
from e2e.conftest import SETTINGS
from e2e.site import KEY, SECRET, Site
from forking import ForkServer
from suites.rotating import seed

from .cases import ANSWERED, CASES, FORGED, ONCE, TWICE, Case
from .running import (
    NEIGHBOUR,
    OUTSIDE,
    OUTSIDE_FOLDER,
    REFUSED,
    SWAPPED,
    Aftermath,
    Decoy,
    drop_everything,
    everything_written,
    file_name,
    known_as,
)
from .surroundings import MISDIRECTIONS, PLACES, VARIABLES, Misdirection, Place, Variable

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

CONFIGURATION_ERROR = 78
GROWN_MB_MAX = 50.0
CASES_MIN = 150
TABLE = [
    pytest.param(lane, case, id=f"{lane}: {case.name}", marks=[pytest.mark.slow] if case.is_heavy else [])
    for lane, cases in CASES.items()
    for case in cases
    if case.expected != ONCE
]

STEERING = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\U000e0000-\U000e007f]"
)
"""What steers a terminal, or hides how a name reads; a line end ends a line."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def aftermath(
    tmp_path_factory: pytest.TempPathFactory, forks: ForkServer, pytestconfig: pytest.Config
) -> AsyncIterator[Aftermath]:
    """Drop the table before one daemon, and wait until everything has settled."""
    is_long = pytestconfig.getoption("--slow")
    table = {lane: [case for case in cases if is_long or not case.is_heavy] for lane, cases in CASES.items()}
    decoy = Decoy()
    async with decoy.listening(), serve(replace(SETTINGS, results_origin=decoy.url)) as simulator:
        site = Site(tmp_path_factory.mktemp("hostile"), simulator, forks=forks)
        log = {"level": "debug", "format": ("text", "json")[seed() % 2]}
        lanes = {"prompted": {"system": "Be kind. " * 2_300}}
        site.configure(inbox={"max_file_bytes": "8MB", "max_jsonl_bytes": "40MB"}, lanes=lanes, log=log)
        yield await drop_everything(site, table, FORGED, decoy=decoy, forks=forks)


@pytest.mark.parametrize(("lane", "case"), TABLE)
async def test_a_hostile_file_gets_what_it_deserves(aftermath: Aftermath, lane: str, case: Case) -> None:
    if case.needs_root and os.geteuid() != 0:
        pytest.skip("only root can make a device: run as root to test this")

    assert aftermath.outcomes[lane].get(known_as(case)) == [case.expected] * case.answers


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in FORGED])
async def test_what_was_put_into_processing_is_judged(aftermath: Aftermath, case: Case) -> None:
    name = file_name(case)
    has_our_mark = case.expected != "forged" and "~" in name

    found = aftermath.outcomes["."].get(shown(name.partition("~")[2] if has_our_mark else name))

    assert found == [case.expected] * case.answers


@pytest.mark.parametrize("files", [pytest.param(files, id=name) for name, files in TWICE.items()])
async def test_what_is_dropped_twice_is_one_request(aftermath: Aftermath, files: Sequence[Case]) -> None:
    names = [file_name(case) for case in files]

    assert [end for name in names for end in aftermath.outcomes["twice"].get(name, [])] == [ANSWERED]
    assert all((aftermath.site.root / "done" / "twice" / name).is_file() for name in names)


async def test_the_table_is_long_and_says_everything_once() -> None:
    names = [(lane, file_name(case)) for lane, cases in CASES.items() for case in cases]

    assert len(names) >= CASES_MIN
    assert len(set(names)) == len(names)


async def test_every_neighbour_is_answered(aftermath: Aftermath) -> None:
    ends = {lane: aftermath.outcomes[lane][f"{NEIGHBOUR}.md"] for lane in CASES}

    assert all(end == ["answered"] for end in ends.values())


async def test_what_lies_outside_of_the_root_is_read_by_nobody(aftermath: Aftermath) -> None:
    """Neither through links nor through a folder that is swapped for one while it is looked at."""
    found = [path for path, data in everything_written(aftermath.site).items() if OUTSIDE.encode() in data]

    assert {Path(path).name.partition(".")[0] for path in found} <= {"hard"}, "those are the outside file itself"
    assert {Path(path).parents[1].name for path in found} <= {"rejected"}
    assert OUTSIDE not in aftermath.log
    assert aftermath.outcomes[SWAPPED] == {"innocent.md": ["answered"]}


async def test_a_file_that_grows_is_taken_when_it_is_whole(aftermath: Aftermath) -> None:
    (original,) = (aftermath.site.root / "done").glob("growing*.md")

    assert aftermath.outcomes["."]["growing.md"] == ["answered"]
    assert len(original.read_text().splitlines()) == 100


async def test_what_was_bought_is_what_was_answered(aftermath: Aftermath) -> None:
    """Nothing was bought twice, and nothing for a file that was rejected."""
    files = [file for lane in aftermath.outcomes.values() for file in lane.items() if file[0] != REFUSED]
    ends = [end for _, of_file in files for end in of_file]

    assert len(aftermath.site.simulator.ledger.purchases) == ends.count("answered") + ends.count("error")


@pytest.mark.parametrize("variable", [pytest.param(variable, id=variable.name) for variable in VARIABLES])
async def test_a_variable_that_leads_astray_is_named_and_not_obeyed(aftermath: Aftermath, variable: Variable) -> None:
    (warning,) = [line for line in aftermath.log.split("\n") if "environment variables are not obeyed" in line]

    assert variable.name in re.split(r"[^A-Za-z_]+", warning)


async def test_nobody_is_led_elsewhere(aftermath: Aftermath) -> None:
    """Neither by the environment nor by redirects, by addresses of results, or by other answers."""
    assert aftermath.faults_left == []
    assert aftermath.decoy.visit_count == 0
    outside = aftermath.site.root.parent / OUTSIDE_FOLDER
    assert {path.name for path in outside.iterdir()} == {"secret.txt", "swapped.md"}


@pytest.mark.parametrize("misdirection", [pytest.param(wrong, id=wrong.name) for wrong in MISDIRECTIONS])
async def test_settings_that_give_us_away_are_refused(
    tmp_path: Path, forks: ForkServer, misdirection: Misdirection
) -> None:
    site = Site(tmp_path, None, forks=forks)
    site.configure(**misdirection.sections)

    code, said = await site.run()

    assert code == CONFIGURATION_ERROR
    assert misdirection.expected in said


@pytest.mark.parametrize("place", [pytest.param(place, id=place.name) for place in PLACES])
async def test_prompts_and_answers_are_not_for_everybody(aftermath: Aftermath, place: Place) -> None:
    found = list(aftermath.site.root.parent.glob(place.pattern))

    assert found
    assert [path.name for path in found if stat.S_IMODE(path.stat().st_mode) & place.forbidden] == []


async def test_nothing_crashed_and_nothing_is_left_half_done(aftermath: Aftermath) -> None:
    assert aftermath.exit_code == 0
    assert "Traceback" not in aftermath.log
    aftermath.site.check_everything_ended()


async def test_the_memory_stays_small(aftermath: Aftermath) -> None:
    assert aftermath.grown_mb < GROWN_MB_MAX


async def test_the_key_is_nowhere(aftermath: Aftermath) -> None:
    """Neither in a file, nor in the log, nor in what commands say."""
    found = [path for path, data in everything_written(aftermath.site).items() if KEY.encode() in data]

    assert found == []
    assert KEY not in aftermath.log
    assert [command for command, said in aftermath.said.items() if KEY in said] == []


async def test_prompts_are_where_they_belong_and_nowhere_else(aftermath: Aftermath) -> None:
    """In originals, in answers and in the database; in no log, explanation, error, manifest or listing.

    The API's own words about a request are for whoever dropped it, and are in the error.
    """
    root = aftermath.site.root
    allowed = [aftermath.site.state / "batchbox.db", aftermath.site.state / "batchbox.db-wal", root / "done"]
    found = [Path(path) for path, data in everything_written(aftermath.site).items() if SECRET.encode() in data]

    strange = [path for path in found if not any(path.is_relative_to(place) for place in allowed)]
    assert [path for path in strange if not _is_original_or_answer(path, root)] == []
    assert SECRET not in aftermath.log
    assert [command for command, said in aftermath.said.items() if SECRET in said] == []


def _is_original_or_answer(path: Path, root: Path) -> bool:
    if path.is_relative_to(root / "rejected"):
        return not path.name.endswith(".error.txt")
    if path.is_relative_to(root / "outbox"):
        return path.suffix == ".md" or path.name.endswith(".result.json") or path.name == "refused.error.json"
    return path.is_relative_to(root / "inbox")  # what is none of ours


async def test_nothing_that_people_look_at_steers_their_terminal(aftermath: Aftermath) -> None:
    """Names are escaped in every line of the log, in every explanation, and in what commands print."""
    explanations = (path.read_bytes().decode() for path in aftermath.site.root.glob("rejected/**/*.error.txt"))
    shown_to_people = [*_words_of(aftermath.log), *aftermath.said.values(), *explanations]

    assert [text for text in shown_to_people if STEERING.search(text.replace("\r\n", "\n"))] == []


async def test_one_event_is_one_line_of_the_log(aftermath: Aftermath) -> None:
    """No name can forge a line."""
    if aftermath.log.startswith("{"):
        assert all(isinstance(json.loads(line), dict) for line in aftermath.log.splitlines())
    else:
        levels = ("debug ", "info ", "warning ", "error ")
        assert [line for line in aftermath.log.split("\n") if line and not line.startswith(levels)] == []


def _words_of(log: str) -> Iterator[str]:
    """Return the log's lines as a person reads them: of JSON what it stands for."""
    for line in log.split("\n"):
        yield "\n".join(str(value) for value in json.loads(line).values()) if line.startswith("{") else line
