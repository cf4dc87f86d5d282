"""Files of one name, again and again: their requests get numbers, in a few statements however many there are."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchbox.model import INBOX_LANE, CustomId
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


async def test_the_number_of_a_rejected_file_goes_to_the_next_one(store: Store, database: Database) -> None:
    await record(store, request("a", params=b"1"))
    twice = request("b", explicit=True)
    group = [(source(), [request("a", params=b"2"), twice, twice]), (source(), [request("a", params=b"3")])]

    outcomes = await store.intake.record(group, now=NOW)

    assert [outcome is None for outcome in outcomes] == [False, True]
    assert list(await ids(database)) == ["a", "a-2"]


async def open_many(database: Database, count: int) -> None:
    """Let so many requests be open under the numbers of `a`."""
    numbers = range(1, count + 1)
    async with database.transaction() as transaction:
        await transaction.run_many(
            "INSERT INTO requests (id, state, lane, custom_id, numbered_from, digest, betas, model, max_tokens, "
            "extension, max_attempts, size_bytes, accepted_at, waiting_since) "
            "VALUES (?, 'waiting', ?, ?, ?, ?, '', 'm', 1, 'md', 3, 1, 0, 0)",
            [(n, INBOX_LANE, f"a-{n}" if n > 1 else "a", "a" if n > 1 else None, b"%d" % n) for n in numbers],
        )


async def seconds_for(store: Store, file_count: int, *, first: int) -> float:
    """Return how long the event loop is busy while so many files named `a` are recorded."""
    contents = range(first, first + file_count)
    group = [(source(), [request("a", params=b"%d" % content)]) for content in contents]
    begun = time.thread_time()
    await store.intake.record(group, now=NOW)
    return time.thread_time() - begun


async def test_no_file_of_a_group_counts_through_all_the_numbers_again(store: Store, database: Database) -> None:
    """Else nothing but that happens in the daemon for seconds: 256 files count to 9,000."""
    await open_many(database, 4000)

    few = await seconds_for(store, 16, first=0)
    many = await seconds_for(store, 256, first=1000)

    assert many < 5 * few
    assert list(await ids(database))[-1] == "a-4272"


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
