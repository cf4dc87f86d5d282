"""Files of one name, again and again: their requests get numbers, in a few statements however many there are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchbox.model import CustomId
from batchbox.naming import numbered
from batchbox.store import Store, assemble
from batchbox.store.database import Database
from batchbox.store.recording import SUFFIXES_MAX, _numbers_of

from .rows import NOW, bodies, ids, record, request, source
from .watched import WatchedDatabase

IDS = st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True).map(CustomId)


@given(IDS, st.integers(min_value=2, max_value=SUFFIXES_MAX - 1))
def test_every_number_of_an_id_is_among_those_looked_up(custom_id: CustomId, number: int) -> None:
    """A long id is cut to make room for its number, and by more for a longer one."""
    first, last, longest = _numbers_of(custom_id)

    assert first <= numbered(custom_id, number) <= last
    assert len(numbered(custom_id, number)) <= longest


@pytest.mark.parametrize("custom_id", ["prompt", "x" * 58, "x" * 59, "x" * 62, "x" * 64, "-" * 64])
async def test_open_files_of_one_name_are_numbered_past_ten(store: Store, database: Database, custom_id: str) -> None:
    for number in range(12):
        await record(store, request(custom_id, params=b"%d" % number))

    expected = [custom_id, *(numbered(CustomId(custom_id), number) for number in range(2, 13))]
    assert list(await ids(database)) == expected


async def test_what_is_open_under_a_number_with_the_same_content_is_a_double_drop(
    store: Store, database: Database
) -> None:
    for number in range(5):
        await record(store, request("prompt", params=b"%d" % number))

    await record(store, request("prompt", params=b"3"))

    assert len(await bodies(database)) == 5


async def test_a_number_that_another_file_of_the_group_has_by_its_own_name_is_left_to_it(
    store: Store, database: Database
) -> None:
    await record(store, request("a", params=b"1"))
    group = [
        (source("a.md"), [request("a", params=b"2")]),
        (source("a 2.md"), [request("a-2", params=b"3")]),
        (source("a.md"), [request("a", params=b"4")]),
    ]

    await store.intake.record(group, now=NOW)

    assert list(await ids(database)) == ["a", "a-2", "a-2-2", "a-3"]


async def test_two_new_files_of_one_name_in_a_group_pass_by_a_number_that_is_open(
    store: Store, database: Database
) -> None:
    """The name itself was free when the group was looked up, and its number was not."""
    await record(store, request("a-2", params=b"1"))
    group = [(source("a.md"), [request("a", params=b"2")]), (source("a.md"), [request("a", params=b"3")])]

    await store.intake.record(group, now=NOW)

    assert list(await ids(database)) == ["a-2", "a", "a-3"]


LOOK_UPS, NEW_IDS, TABLES, NOTES = 4, 2, 4, 1


@pytest.mark.parametrize(("line_count", "open_count"), [(1, 1), (1, 30), (20, 1), (20, 30)])
async def test_recording_takes_a_few_statements_however_many_lines_are_taken_how_often(
    database: Database, line_count: int, open_count: int
) -> None:
    """Hundreds of people drop `prompt.md`; a file of ten thousand lines is dropped again, corrected."""
    watched = WatchedDatabase(database)
    store = assemble(watched)
    for content in range(open_count):
        await record(store, *(request(f"list-{line}", params=b"%d" % content) for line in range(line_count)))
    watched.statements.run_count = 0

    await record(store, *(request(f"list-{line}", params=b"new") for line in range(line_count)))

    assert watched.statements.run_count == LOOK_UPS + NEW_IDS + TABLES + NOTES
