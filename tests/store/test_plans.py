"""How SQLite goes about the statements that run all the time: by an index, however long the history is."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import pytest

from batchbox.api import BatchInfo
from batchbox.model import INBOX_LANE, ApiBatchId, ErrorType, LostReason, Nonce
from batchbox.store import Store, assemble
from batchbox.store.body import StoredBody
from batchbox.store.cancelling import Cancel, Standing
from batchbox.store.charges import Charge
from batchbox.store.database import open_database
from batchbox.store.recording import Rejection

from .rows import NOW, batch_info, outcome, read_body, record, request, seal, send, sending, source
from .test_long_files import REJECTION, add, begin, finish
from .watched import WatchedDatabase


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[WatchedDatabase]:
    """Return a database with a little of everything in it."""
    async with open_database(tmp_path) as database:
        store = assemble(database)
        await record(store, request("a"), request("b"), request("c"))
        await send(store, await seal(store, requests_max=2))
        await record(store, request("d"))
        await begin(store)
        yield WatchedDatabase(database)


ENDED = batch_info(count=2, ended=True)
CHARGE = Charge(wire_id="w", request_id=1, model="m", input_tokens=1, output_tokens=1, cost_nanousd=1, sent_at=NOW)  # type: ignore[arg-type] # any wire id
OTHER_NONCE = Nonce("bbbbbbbb")


async def take_a_long_file(store: Store) -> None:
    """Take a long file, of which something was dropped before."""
    source_id = await begin(store)
    await add(store, source_id, request("a"), request("d", params=b"other"), request("e"))
    await finish(store, source_id)


async def reject_a_long_file(store: Store) -> None:
    """Reject one in the midst of it."""
    source_id = await begin(store)
    await add(store, source_id, request("e"))
    await store.intake.reject(source_id, REJECTION, now=NOW)


async def put_aside(store: Store) -> None:
    """Bring a file to rejected/."""
    await store.intake.record([(source("bad.md"), REJECTION)], now=NOW)
    rejected = await store.intake.rejected(limit=256)
    await store.intake.take_targets([(one.id, one.name) for one in rejected])
    await store.intake.put_aside([one.id for one in rejected], now=NOW)


async def send_one(store: Store) -> None:
    """Send a batch: the body, the manifest, and every outcome that a call may have."""
    batch_id = await seal(store)
    for nonce in (Nonce("cccccccc"), OTHER_NONCE):
        await store.dispatch.intend(sending(batch_id, nonce))
        await store.dispatch.withdraw(batch_id, nonce, now=NOW, is_break=False)
    await store.dispatch.intend(sending(batch_id, "dddddddd"))
    body: StoredBody = await store.dispatch.body(batch_id, Nonce("dddddddd"))
    await read_body(body)
    await store.dispatch.manifest_lines(batch_id, after=0, limit=10)
    await store.dispatch.accept(batch_id, Nonce("dddddddd"), batch_info("msgbatch_2"), api_request_id="req", now=NOW)


async def refuse(store: Store) -> None:
    """Let a batch of two be refused, and then each of them."""
    first = await seal(store)
    await store.dispatch.intend(sending(first, "cccccccc"))
    await store.dispatch.refuse(first, Nonce("cccccccc"), refusal="no", is_too_large=False)
    await store.regrouping.undecided()
    await store.regrouping.is_held_for("no")
    await store.regrouping.halve(first, now=NOW)
    (half, *_) = await store.dispatch.sealed()
    await store.dispatch.intend(sending(half.id, "dddddddd"))
    await store.dispatch.refuse(half.id, Nonce("dddddddd"), refusal="no", is_too_large=False)
    await store.regrouping.fail(half.id, error_text="no", now=NOW)


async def part(store: Store) -> None:
    """Let what waits for a file go into a batch of its own."""
    await record(store, request("f"))
    batch_id = await seal(store)
    (first, *_) = await store.verifying.unverified(batch_id, after=None, limit=10)
    await store.verifying.unverified(batch_id, after=first, limit=10)
    await store.verifying.mark_verified([first.source.id])
    assert await store.verifying.part_unverified(batch_id, now=NOW)
    assert len(await store.dispatch.sealed()) == 2


async def reconcile(store: Store) -> None:
    """Look for a batch in doubt."""
    batch_id = await seal(store)
    await store.dispatch.intend(sending(batch_id, "cccccccc"))
    await store.dispatch.add_candidates(Nonce("cccccccc"), [ApiBatchId("msgbatch_9")])
    await store.dispatch.doubts()
    await store.dispatch.known_batches([ApiBatchId("msgbatch_9")])
    await store.dispatch.batch_of_sending(Nonce("cccccccc"))
    await store.dispatch.rule_out(ApiBatchId("msgbatch_9"))
    await store.dispatch.note_unreadable(ApiBatchId("msgbatch_9"), "gone")
    await store.dispatch.close_candidates(Nonce("cccccccc"))


async def watch_twins(store: Store) -> None:
    """Look for a first sending after its resend, and book it."""
    await reconcile(store)
    (doubt,) = await store.dispatch.doubts()
    await store.dispatch.withdraw(doubt.batch_id, doubt.nonce, now=NOW, is_break=True)
    await store.twins.late(withdrawn_since=NOW, resent_since=NOW)
    await store.twins.delivered(doubt.batch_id)
    await store.twins.find(doubt.batch_id, doubt.nonce, ApiBatchId("msgbatch_9"), now=NOW)
    await store.dispatch.sealed()
    await store.twins.unbooked()
    await store.twins.is_in_doubt(doubt.batch_id)
    await store.regrouping.halve(doubt.batch_id, now=NOW)
    await store.twins.reclaim(doubt.batch_id, doubt.nonce, batch_info("msgbatch_9", count=2), now=NOW)
    await store.twins.swap(doubt.batch_id, doubt.nonce, batch_info("msgbatch_9"), now=NOW)
    await store.twins.leave_beside(doubt.nonce, ApiBatchId("msgbatch_9"))
    await store.twins.members(doubt.batch_id, [1])
    await store.twins.book(ApiBatchId("msgbatch_9"))


async def poll(store: Store, info: BatchInfo = ENDED) -> None:
    """Poll a batch to its end."""
    (batch,) = await store.polling.in_progress()
    await store.polling.lose(batch.id)
    await store.polling.find(batch.id)
    await store.polling.find_results(batch.id)
    await store.polling.undelivered_since(NOW)
    await store.polling.end(batch.id, info)


async def deliver(store: Store) -> None:
    """Deliver an answer, send another request anew, and bring the file away."""
    await poll(store)
    (batch,) = await store.delivery.ended()
    await store.delivery.undelivered(batch.id, [1, 2])
    await store.delivery.stems_in_use(INBOX_LANE)
    await store.delivery.take_stems({1: "a", 2: "b"})
    await store.delivery.record([outcome(1, charge=CHARGE)], now=NOW)
    await store.delivery.undelivered_count(batch.id)
    await store.delivery.count_short_read(batch.id)
    await store.delivery.condemn_rest(batch.id, ErrorType.RESULT_MISSING, "no line", now=NOW)
    await store.delivery.failing(limit=256)
    await store.delivery.lost_since(NOW)
    await store.delivery.lose(batch.id, LostReason.NO_RESULTS)
    await store.delivery.close(batch.id)
    await store.delivery.remove_bodies(NOW, limit=256)


async def cancel(store: Store) -> None:
    """Take back a file and a request, one of them in a sealed batch."""
    await seal(store)
    await store.cancelling.standings(INBOX_LANE, ["a.md", "b"])
    cancels = [
        Cancel(lane=INBOX_LANE, target=name, known=Standing.NOTHING, sign=source(f"{name}.cancel"))
        for name in ("c", "d")
    ]
    await store.cancelling.cancel(cancels, now=NOW)
    assert await store.cancelling.end_unsent(now=NOW) == 2
    await store.polling.in_progress()


async def look_once_more(store: Store) -> None:
    """Look at files before they are sent or leave; one has changed, another one has gone."""
    batch_id = await seal(store)
    await store.verifying.unverified(batch_id, after=None, limit=256)
    await store.verifying.unverified_settled(after=0, limit=256)
    await store.verifying.recall([2], now=NOW)
    await store.verifying.withdraw([1], text="gone", now=NOW)
    await store.verifying.mark_verified([1])


async def archive(store: Store) -> None:
    """Bring settled files to done/, and delete old ones from there."""
    settled = await store.originals.settled(limit=256)
    await store.originals.take_targets([(one.id, one.name) for one in settled])
    await store.originals.archive([one.id for one in settled], now=NOW)
    kept = await store.originals.kept_since(NOW, limit=256)
    await store.originals.forget([one.id for one in kept])


async def look_on(store: Store) -> None:
    """Ask what the service itself asks, every few seconds."""
    await store.overview.batches()
    await store.overview.has_open_work()
    await store.overview.lost_batches()
    await store.overview.tally_since(NOW)
    await store.holds.all()


async def record_a_group(store: Store) -> None:
    """Record a double drop, a name that is taken, a new file and a bad one."""
    rejection: Rejection = REJECTION
    await store.intake.record(
        [
            (source(), [request("a")]),
            (source(), [request("a", params=b"other")]),
            (source(), [request("new")]),
            (source(), rejection),
        ],
        now=NOW,
    )


Work = Callable[[Store], Awaitable[object]]

HOT: Mapping[str, Work] = {
    "what waits": lambda store: store.intake.backlog(),
    "recording": record_a_group,
    "claims without a row": lambda store: store.intake.unrecorded([(INBOX_LANE, "claim")]),
    "a long file": take_a_long_file,
    "a long file that is rejected": reject_a_long_file,
    "a long file that a crash broke off": lambda store: store.intake.forget_unfinished(),
    "putting aside": put_aside,
    "windows": lambda store: store.dispatch.windows(),
    "sending": send_one,
    "a refusal": refuse,
    "parting": part,
    "reconciling": reconcile,
    "watching for twins": watch_twins,
    "polling": poll,
    "cancelling": cancel,
    "delivering": deliver,
    "looking once more": look_once_more,
    "archiving": archive,
    "looking on": look_on,
}


@pytest.mark.parametrize("name", HOT)
async def test_no_table_is_read_from_end_to_end(watched: WatchedDatabase, name: str) -> None:
    """Files and requests are kept for months, and these statements run many times a second."""
    await HOT[name](assemble(watched))

    assert watched.statements.seen
    assert await watched.scans() == []


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("SELECT id FROM sources WHERE owner = ?", ("alice",)),
        ("SELECT s.id FROM sources AS s WHERE s.owner = ?", ("alice",)),
        ("SELECT lane, state, count(*) FROM requests GROUP BY lane, state", ()),
        ("DELETE FROM body_pieces WHERE key / 1024 = ?", (1,)),
        ("SELECT state, count(*) FROM sources GROUP BY state", ()),
    ],
)
async def test_such_a_reading_would_be_noticed(
    watched: WatchedDatabase, sql: str, parameters: Sequence[object]
) -> None:
    async with watched.transaction() as transaction:
        await transaction.run(sql, parameters)

    assert len(await watched.scans()) == 1
