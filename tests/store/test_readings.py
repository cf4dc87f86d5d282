"""What is left at a start tells which files were being parsed when a process ended."""

import os

from batchbox.model import INBOX_LANE, Lane, RejectReason
from batchbox.store import Store
from batchbox.store.database import Database
from batchbox.store.recording import Rejection

from .rows import NOW, request, source

REJECTION = Rejection(reason=RejectReason.BAD_JSON, detail="line 3: no", what_to_do="Correct it.")
ONE = (INBOX_LANE, "000000000001-0123456789abcdef~a.md")
TWO = (Lane("reports"), os.fsdecode(b"000000000001-0123456789abcdef~caf\xe9.md"))


async def test_what_was_begun_is_counted_until_it_is_recorded(store: Store) -> None:
    own = source()
    key = (own.lane, own.claim)
    claims = [ONE, TWO, key]

    await store.readings.begin(claims)
    await store.readings.begin([TWO, key])
    begun = await store.readings.left_behind(claims)
    await store.intake.record([(own, [request()])], now=NOW)

    assert begun == {ONE: 1, TWO: 2, key: 2}
    assert await store.readings.left_behind(claims) == {ONE: 1, TWO: 2}


async def test_the_reading_of_a_long_file_ends_when_it_is_taken_or_given_up(store: Store, database: Database) -> None:
    """And a part of it is no end."""
    taken, refused = source(), source()
    for own in (taken, refused):
        await store.readings.begin([(own.lane, own.claim)])
    taken_id = await store.intake.begin(taken)
    await store.intake.add_part(taken_id, (taken.lane, taken.claim), [request("a-1")], now=NOW)
    while_read = await database.all("SELECT claim FROM readings")

    await store.intake.finish(taken_id, sha256=b"", size_bytes=1)
    after_one = await database.all("SELECT claim FROM readings")
    refused_id = await store.intake.begin(refused)
    await store.intake.reject(refused_id, REJECTION, now=NOW)

    assert len(while_read) == 2
    assert [os.fsdecode(claim) for (claim,) in after_one] == [refused.claim]
    assert await database.all("SELECT claim FROM readings") == []


async def test_what_has_gone_from_processing_is_forgotten(store: Store, database: Database) -> None:
    await store.readings.begin([ONE, TWO])

    await store.readings.left_behind([TWO])

    assert await database.all("SELECT lane FROM readings") == [(TWO[0],)]
