"""Files that change after they were claimed: their writer had them open, and a rename does not take that away."""

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from batchbox.intake.settling_anew import QUIET_SECONDS_MAX
from batchbox.settling import GONE_SECONDS
from batchbox.timing import PLACE_SECONDS_MAX

from .bench import INSTANCE, Bench, Crash
from .taking import dispatch_for, request, send, take_in
from .test_cancelling import Hooked


class Writer:
    """A program that has a dropped file open, and goes on writing into it wherever it is moved to."""

    def __init__(self, bench: Bench, name: str, content: str) -> None:
        self._bench = bench
        self._name = name
        self._descriptor = os.open(bench.drop(name, content), os.O_WRONLY | os.O_APPEND)

    def write(self, more: str) -> None:
        """Append to the file."""
        os.write(self._descriptor, more.encode())
        self._bench.dropped[self._name] += more.encode()

    def close(self) -> None:
        """End."""
        os.close(self._descriptor)


@contextmanager
def writer(bench: Bench, name: str, content: str) -> Iterator[Writer]:
    """Drop a file and keep it open."""
    one = Writer(bench, name, content)
    try:
        yield one
    finally:
        one.close()


def claims(bench: Bench) -> list[str]:
    """Return what lies in processing/ for the inbox."""
    return sorted(os.listdir(bench.root / "processing" / INSTANCE / "_"))


def unsettled(bench: Bench) -> list[tuple[object, ...]]:
    """Return how often the files that are waited for have changed, and which are still."""
    return bench.rows("SELECT change_count, is_still FROM unsettled")


async def settle_anew(bench: Bench) -> None:
    """Let intake wait until a file that has changed once is still, and read it again."""
    for _ in range(10):
        await bench.step("intake")
        bench.advance(0.5)
    assert bench.rows("SELECT change_count, is_still, state FROM unsettled, sources") == [(1, 1, "open")]


def asked(bench: Bench) -> list[str]:
    """Return the text of everything that was bought."""
    params = [json.loads(one) for batch in bench.api.batches for one in batch.requests.values()]
    return [one["messages"][0]["content"] for one in params]


@contextmanager
def hidden(bench: Bench, name: str) -> Iterator[None]:
    """Let the share lose sight of a claimed file."""
    folder = bench.root / "processing" / INSTANCE / "_"
    (claim,) = (path for path in folder.iterdir() if path.name.endswith(f"~{name}"))
    unseen = bench.root / "inbox" / f".{name}"
    claim.rename(unseen)
    yield
    unseen.rename(claim)


@contextmanager
def closed(bench: Bench, lane: str) -> Iterator[None]:
    """Let something else have the name of the folder of a lane's claims."""
    folder = bench.root / "processing" / INSTANCE / lane
    away = bench.root / "inbox" / f".{lane}"
    folder.rename(away)
    folder.touch()
    yield
    folder.unlink()
    away.rename(folder)


def lose_lane(bench: Bench, lane: str, *names: str) -> None:
    """Let somebody delete the folder of a lane's claims, with these files in it."""
    shutil.rmtree(bench.root / "processing" / INSTANCE / lane)
    for name in names:
        del bench.dropped[f"{lane}/{name}"]


async def test_a_file_that_grows_after_its_claim_is_bought_whole_and_once(bench: Bench) -> None:
    with writer(bench, "a.md", "first half") as file:
        await take_in(bench)

        file.write(", second half")
        await send(bench)
        await bench.settle()

    assert asked(bench) == ["first half, second half"]
    assert "a.result.json" in bench.outbox()


async def test_a_file_as_it_was_read_is_looked_at_once(bench: Bench) -> None:
    bench.drop("a.md", "question")
    await take_in(bench)
    await send(bench)

    assert bench.rows("SELECT is_verified FROM sources") == [(1,)]
    assert len(bench.api.bought) == 1


async def test_what_is_written_after_the_sending_counts_no_more(bench: Bench) -> None:
    with writer(bench, "a.md", "question") as file:
        await take_in(bench)
        await send(bench)

        file.write(", and more")
        await bench.settle()

    assert asked(bench) == ["question"]


async def test_its_neighbours_in_the_batch_go_out_without_it(bench: Bench) -> None:
    bench.drop("b.md", "neighbour")
    with writer(bench, "a.md", "first half") as file:
        await take_in(bench)
        file.write(", more")

        await send(bench)
        await bench.step("dispatch")

        assert asked(bench) == ["neighbour"]
        await bench.settle()
    assert sorted(asked(bench)) == ["first half, more", "neighbour"]


async def test_every_change_doubles_how_long_it_has_to_be_still(bench: Bench) -> None:
    """`quiet` is 1 s on the bench."""
    with writer(bench, "a.md", "1") as file:
        await take_in(bench)
        waits = []
        for _ in range(3):
            file.write("+")
            await send(bench)
            begun = bench.now.monotonic
            while unsettled(bench)[0][1] == 0:
                await bench.step("intake")
                bench.advance(0.25)
            waits.append(bench.now.monotonic - begun)
            await bench.step("intake")
        await bench.settle()

    assert [round(wait) for wait in waits] == [2, 4, 8]
    assert asked(bench) == ["1+++"]
    assert unsettled(bench) == []


async def test_a_file_that_is_never_still_for_an_hour_is_rejected(bench: Bench) -> None:
    with writer(bench, "a.md", "1") as file:
        await take_in(bench)
        for _ in range(80):
            file.write("+")
            await bench.step("dispatch")
            await bench.step("intake")
            bench.advance(50)

    await bench.settle()
    explanation = (bench.root / "rejected" / "a.md.error.txt").read_text()
    assert "unstable" in explanation
    assert not bench.api.bought
    assert unsettled(bench) == []


async def test_a_file_that_was_still_in_between_is_not_unstable(bench: Bench) -> None:
    """The hour counts from the first change after that."""
    with writer(bench, "a.md", "1") as file:
        await take_in(bench)
        file.write("+")
        await send(bench)
        await settle_anew(bench)
        bench.advance(7200)
        await bench.step("intake")

        file.write("+")
        await bench.settle()

    assert asked(bench) == ["1++"]


async def test_the_wait_has_a_bound(bench: Bench) -> None:
    """Ten minutes, however often the file has changed."""
    with writer(bench, "a.md", "1") as file:
        await take_in(bench)
        file.write("+")
        await send(bench)
    with sqlite3.connect(bench.state / "batchbox.db") as database:
        database.execute("UPDATE unsettled SET change_count = 60")
    database.close()

    await bench.step("intake")
    bench.advance(QUIET_SECONDS_MAX + 1)
    await bench.step("intake")

    assert bench.rows("SELECT is_still FROM unsettled") == [(1,)]
    await bench.settle()


async def test_a_crash_while_it_settles_loses_nothing(bench: Bench) -> None:
    with writer(bench, "a.md", "1") as file:
        await take_in(bench)
        file.write("+")
        await send(bench)
        assert bench.rows("SELECT state FROM sources") == [("reading",)]

        await bench.restart()
        await bench.settle()

    assert asked(bench) == ["1+"]


async def test_what_a_long_file_asks_for_is_taken_back_whole(bench: Bench) -> None:
    """Part of it is sealed and part of it waits: nothing of it has been sent."""
    lines = "\n".join(json.dumps(request(f"question {number}")) for number in range(25))
    with writer(bench, "many.jsonl", lines) as file:
        await take_in(bench)
        file.write("\n" + json.dumps(request("question 25")))
        await bench.settle()

    assert sorted(asked(bench)) == sorted(f"question {number}" for number in range(26))


async def test_what_another_file_asks_for_too_is_not_taken_back(bench: Bench) -> None:
    bench.drop("a.md", "same")
    await take_in(bench)
    with writer(bench, "a.md", "same") as file:
        await take_in(bench)
        file.write(", and more")

        await send(bench)
        await bench.settle()

    assert sorted(asked(bench)) == ["same", "same, and more"]


async def test_a_double_drop_of_what_is_taken_back_is_bought_without_waiting(bench: Bench) -> None:
    with writer(bench, "a.md", "same") as file:
        await take_in(bench)
        file.write(", and more")
        await send(bench)
        bench.drop("a.md", "same")
        await take_in(bench)
        await bench.settle()

    assert sorted(asked(bench)) == ["same", "same, and more"]


async def test_a_file_that_has_gone_in_two_looks_is_withdrawn(bench: Bench) -> None:
    bench.drop("a.md", "question")
    bench.drop("b.md", "neighbour")
    await take_in(bench)
    lost = next(name for name in claims(bench) if name.endswith("~a.md"))
    (bench.root / "processing" / INSTANCE / "_" / lost).unlink()
    del bench.dropped["a.md"]

    await send(bench)
    assert not bench.api.bought
    bench.advance(6)
    await bench.settle()

    assert asked(bench) == ["neighbour"]
    error = json.loads((bench.root / "outbox" / "a.error.json").read_text())
    assert error["error"]["type"] == "withdrawn"
    assert error["billed"] is False
    assert os.listdir(bench.root / "done") == ["b.md"]


async def test_a_share_that_loses_sight_of_a_file_for_a_moment_withdraws_nothing(bench: Bench) -> None:
    bench.drop("a.md", "question")
    await take_in(bench)
    with hidden(bench, "a.md"):
        await send(bench)

    bench.advance(6)
    await bench.settle()

    assert asked(bench) == ["question"]


async def test_a_file_that_is_away_for_a_moment_while_it_settles_is_bought(bench: Bench) -> None:
    with writer(bench, "a.md", "1") as file:
        await take_in(bench)
        file.write("+")
        await send(bench)
        await bench.step("intake")
    with hidden(bench, "a.md"):
        for _ in range(3):
            bench.advance(GONE_SECONDS / 3)
            await bench.step("intake")

    await bench.settle()

    assert asked(bench) == ["1+"]


async def recall_after_a_look_in_vain(bench: Bench) -> None:
    """Look for a file that is hidden just then, and find it changed in the next look."""
    path = bench.drop("a.md", "first")
    with path.open("ab") as file:
        await take_in(bench)
        with hidden(bench, "a.md"):
            await send(bench)
        file.write(b", and more")
    bench.dropped["a.md"] = b"first, and more"
    bench.advance(6)
    await bench.step("dispatch")
    assert unsettled(bench) == [(1, 0)]


async def test_a_file_that_is_seen_again_has_to_be_away_twice_anew(bench: Bench) -> None:
    await recall_after_a_look_in_vain(bench)
    await settle_anew(bench)

    with hidden(bench, "a.md"):
        await send(bench)
    await bench.settle()

    assert asked(bench) == ["first, and more"]


async def test_a_file_is_not_taken_for_another_one_that_was_away(bench: Bench) -> None:
    """It has got the number of that one in the database."""
    await recall_after_a_look_in_vain(bench)
    bench.drop("b.md", "other")
    await take_in(bench)
    assert bench.rows("SELECT id FROM sources WHERE name = CAST('b.md' AS BLOB)") == [(1,)]

    with hidden(bench, "b.md"):
        await send(bench)
    await bench.settle()

    assert sorted(asked(bench)) == ["first, and more", "other"]


async def test_while_a_file_is_looked_for_other_batches_go_out(bench: Bench) -> None:
    bench.drop("a.md", "question")
    bench.drop("b.md", "of another lane", lane="fax")
    await take_in(bench)

    with hidden(bench, "a.md"):
        await send(bench)
        await bench.step("dispatch")
    assert asked(bench) == ["of another lane"]

    await bench.settle()
    assert sorted(asked(bench)) == ["of another lane", "question"]


async def test_while_the_file_of_a_probe_is_looked_for_another_request_is_the_probe(bench: Bench) -> None:
    """Else nothing would be bought for as long as that file is neither there nor gone."""
    bench.drop("a.md", "question")
    await take_in(bench)
    bench.drop("b.md", "another")
    await take_in(bench)
    with sqlite3.connect(bench.state / "batchbox.db") as database:
        database.execute("INSERT INTO holds (name, reason, since_at) VALUES ('credit', 'no credit', 0)")
    database.close()

    with hidden(bench, "a.md"), hidden(bench, "b.md"):
        await dispatch_for(bench, 4)
        due = await bench.step("dispatch")
    assert bench.rows("SELECT is_probe, request_count FROM batches WHERE state = 'sealed'") == [(0, 1), (0, 1)]
    assert due > bench.now.monotonic

    with hidden(bench, "a.md"):
        await dispatch_for(bench, 8)
    assert asked(bench) == ["another"]
    await bench.settle()


@pytest.mark.parametrize("every", [1.0, PLACE_SECONDS_MAX + 1.0])
async def test_however_many_files_cannot_be_looked_at_another_request_is_the_probe(bench: Bench, every: float) -> None:
    """Whether or not their waits are over before it has its turn."""
    for number in range(9):
        bench.drop(f"{number}.md", f"question {number}", lane="fax")
    await take_in(bench)
    bench.drop("other.md", "another")
    await take_in(bench)
    with sqlite3.connect(bench.state / "batchbox.db") as database:
        database.execute("INSERT INTO holds (name, reason, since_at) VALUES ('credit', 'no credit', 0)")
    database.close()

    with closed(bench, "fax"):
        await dispatch_for(bench, 20 * every, every=every)

    assert asked(bench) == ["another"]
    assert bench.rows("SELECT request_count FROM batches WHERE is_probe = 1") == [(1,)]
    await bench.settle()


async def test_a_batch_that_was_not_tried_gives_the_probe_before_one_that_had_to_wait(bench: Bench) -> None:
    """The older one may have to wait again and again."""
    bench.drop("a.md", "question", lane="fax")
    await take_in(bench)
    with closed(bench, "fax"):
        await send(bench)
    bench.drop("b.md", "another")
    await take_in(bench)
    assert bench.stages is not None
    store = bench.stages.dispatch._choosing._store
    (window,) = await store.windows()
    await store.seal(window, requests_max=1, bytes_max=10**6, now=bench.now.wall)
    with sqlite3.connect(bench.state / "batchbox.db") as database:
        database.execute("INSERT INTO holds (name, reason, since_at) VALUES ('credit', 'no credit', 0)")
    database.close()

    with closed(bench, "fax"):
        await dispatch_for(bench, 5 * (PLACE_SECONDS_MAX + 1.0), every=PLACE_SECONDS_MAX + 1.0)

    assert asked(bench) == ["another"]
    await bench.settle()


async def test_a_look_that_fails_is_no_change(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """What the lane's files ask for waits, and is bought as it was read; that is told once."""
    bench.drop("a.md", "question", lane="fax")
    await take_in(bench)
    (claim,) = os.listdir(bench.root / "processing" / INSTANCE / "fax")

    with closed(bench, "fax"):
        bench.advance(1.1)
        for _ in range(10):
            due = await bench.step("dispatch")
            bench.advance(max(0.0, due - bench.now.monotonic))
    assert unsettled(bench) == []
    assert [record.message for record in caplog.records].count(
        "file cannot be read once more: what it asks for waits until it can"
    ) == 1
    assert bench.rows("SELECT file_trouble FROM batches") == [(f"fax/{claim} cannot be read once more",)]

    await bench.settle()
    assert asked(bench) == ["question"]
    assert bench.rows("SELECT file_trouble FROM batches") == [(None,)]


async def test_files_that_went_away_together_are_withdrawn_together(bench: Bench) -> None:
    """Else each of them would make a batch of all the others."""
    for number in range(30):
        bench.drop(f"{number}.md", f"question {number}")
    await take_in(bench)
    for name in claims(bench):
        (bench.root / "processing" / INSTANCE / "_" / name).unlink()
    bench.dropped.clear()

    await send(bench)
    await bench.settle()

    assert bench.rows("SELECT count(*) FROM batches") == [(1,)]
    assert sum(name.endswith(".error.json") for name in bench.outbox()) == 30


async def test_a_file_that_goes_away_while_it_settles_is_explained(bench: Bench) -> None:
    with writer(bench, "a.md", "1") as file:
        await take_in(bench)
        file.write("+")
        await send(bench)
    (name,) = claims(bench)
    (bench.root / "processing" / INSTANCE / "_" / name).unlink()
    del bench.dropped["a.md"]

    await bench.settle()

    assert "withdrawn" in (bench.root / "rejected" / "a.md.error.txt").read_text()
    assert not bench.api.bought


@pytest.mark.parametrize("is_last_act", [False, True])
async def test_a_file_that_goes_away_before_it_is_read_again_is_explained(bench: Bench, is_last_act: bool) -> None:
    """It was still, and nothing is recorded of it: a crash just then, too, must not let it be forgotten."""
    with writer(bench, "a.md", "1") as file:
        await take_in(bench)
        file.write("+")
        await send(bench)
    (name,) = claims(bench)

    def delete() -> None:
        (bench.root / "processing" / INSTANCE / "_" / name).unlink()
        del bench.dropped["a.md"]
        if is_last_act:
            raise Crash

    bench.api.points = Hooked("before Inbox.read.", delete)
    await bench.restart()
    with suppress(Crash):
        await bench.settle()
    if is_last_act:
        await bench.restart()
        await bench.settle()

    assert "withdrawn" in (bench.root / "rejected" / "a.md.error.txt").read_text()
    assert (unsettled(bench), bench.api.bought) == ([], [])


async def test_a_file_that_settles_is_looked_at_when_its_time_has_come(bench: Bench) -> None:
    """A step follows every event, there may be thousands of such files, and on a share each look takes its time."""
    with writer(bench, "a.md", "1") as file:
        await take_in(bench)
        file.write("+")
        await send(bench)
        bench.points.labels.clear()
        for _ in range(10):
            await bench.step("intake")
            bench.advance(0.1)
        looks = sum(label.startswith("before Inbox.sample_claims") for label in bench.points.labels)
        await bench.settle()

    assert looks == 1
    assert asked(bench) == ["1+"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything: this needs another user")
async def test_a_file_that_became_unreadable_is_waited_for(bench: Bench) -> None:
    path = bench.drop("a.md", "question")
    await take_in(bench)
    (name,) = claims(bench)
    claim = path.parents[1] / "processing" / INSTANCE / "_" / name
    claim.chmod(0)
    await send(bench)
    assert not bench.api.bought

    claim.chmod(0o600)
    await bench.settle()

    assert asked(bench) == ["question"]


async def test_a_lanes_folder_that_has_gone_withdraws_its_files_alone(bench: Bench) -> None:
    bench.drop("a.md", "question", lane="fax")
    await take_in(bench)
    lose_lane(bench, "fax", "a.md")
    await send(bench)
    bench.drop("b.md", "of another lane")

    await bench.settle()

    assert asked(bench) == ["of another lane"]
    error = json.loads(bench.outbox("fax")["a.error.json"])
    assert error["error"]["type"] == "withdrawn"


async def test_a_lanes_folder_that_goes_while_a_file_settles_stops_no_intake(bench: Bench) -> None:
    path = bench.drop("a.md", "1", lane="fax")
    with path.open("ab") as file:
        await take_in(bench)
        file.write(b"+")
    bench.dropped["fax/a.md"] = b"1+"
    await send(bench)
    lose_lane(bench, "fax", "a.md")
    bench.drop("b.md", "of another lane")

    await bench.settle()

    assert asked(bench) == ["of another lane"]
    assert "withdrawn" in (bench.root / "rejected" / "fax" / "a.md.error.txt").read_text()


async def test_a_lanes_folder_that_goes_after_the_sending_stops_no_archiving(bench: Bench) -> None:
    bench.drop("a.md", "of the lane", lane="fax")
    bench.drop("b.md", "question")
    await take_in(bench)
    await send(bench)
    await bench.step("dispatch")
    lose_lane(bench, "fax", "a.md")

    await bench.settle()

    assert "a.result.json" in bench.outbox("fax")
    assert "b.md" in os.listdir(bench.root / "done")
