"""`batchbox status` about what waits for a person, and about what other instances have left behind."""

import json

from batchbox.folders.takeover import ALIVE_SECONDS
from batchbox.model import ApiBatchId, Nonce
from batchbox.store import open_store
from batchbox.store.meta import Fact

from .bench import Home, drop, intend, seal
from .test_reconcile import hold


def page(home: Home) -> str:
    """Return the page with every run of spaces and line ends as one space."""
    done = home.call("status", "--config", str(home.config))
    assert done.returncode == 0, done.stderr
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    return " ".join(done.stdout.split())


async def test_a_doubt_says_how_many_candidates_there_are_and_who_must_judge_them(home: Home) -> None:
    home.make()
    async with open_store(home.state) as store:
        await drop(store, "doubt.md")
        await intend(store, await seal(store, "_"), "aaaaaaaa", minutes_ago=30)
        await store.dispatch.add_candidates(Nonce("aaaaaaaa"), [ApiBatchId("msgbatch_1"), ApiBatchId("msgbatch_2")])
        await store.dispatch.note_unreadable(ApiBatchId("msgbatch_1"), "its results are gone")

    text = page(home)

    assert "now the answer to the send call is missing" in text
    assert "Candidates at the API: 2, 1 of which only a person can judge." in text


async def test_a_held_batch_says_who_decides(home: Home) -> None:
    home.make()
    async with open_store(home.state) as store:
        await drop(store, "held.md", count=3)
        await hold(store, await seal(store, "_"))

    text = page(home)

    assert "Held: batch 1. Its 3 requests wait for a person: recovered, and not found." in text
    assert "`batchbox reconcile --resend 1`" in text


async def test_a_root_that_cannot_be_looked_at_leaves_open_who_else_is_there(home: Home) -> None:
    """That is not the same as nobody."""
    home.make()
    async with open_store(home.state):
        pass
    home.root.rename(home.path / "away")

    text = page(home)
    told = json.loads(home.call("status", "--json", "--config", str(home.config)).stdout)

    assert "Other instances: not known, because the root cannot be looked at." in text
    assert told["orphans"] is None


async def test_work_that_another_instance_left_behind_is_named(home: Home) -> None:
    """One that lives is nobody's business; nor is our own."""
    home.make()
    async with open_store(home.state) as store:
        await store.meta.get_or_record(Fact.INSTANCE, lambda: "own-00000001")
    for name in ("own-00000001", "dead-00000002", "alive-00000003"):
        lane = home.root / "processing" / name / "_"
        lane.mkdir(parents=True)
        (lane / "claim~a.md").write_text("a")
    (home.root / "processing" / "alive-00000003" / ".heartbeat").touch()

    text = page(home)
    told = json.loads(home.call("status", "--json", "--config", str(home.config)).stdout)

    assert "Left behind by dead-00000002: 1 file, 0 open batches" in text
    assert "`batchbox recover dead-00000002`" in text
    assert told["orphans"] == [{"instance": "dead-00000002", "silent_seconds": None, "files": 1, "batches": 0}]
    assert ALIVE_SECONDS > 60, "a heartbeat is touched every minute"
