"""`batchbox reconcile`: what is in doubt, lost or held, and orders to the daemon."""

import json
import re
from typing import Any

import pytest

from batchbox.model import ApiBatchId, Nonce
from batchbox.store import Store, open_store
from batchbox.store.state_folder import locked

from .bench import NOW, Home, drop, intend, seal, send

Told = Any
"""Any: what JSON can hold, a recursive type."""

UNREADABLE = ApiBatchId("msgbatch_unreadable")
RUNNING = ApiBatchId("msgbatch_running")


def reconcile(home: Home, *arguments: str, code: int = 0) -> str:
    """Call it; return all that it said with every run of spaces and line ends as one space."""
    done = home.call("reconcile", "--config", str(home.config), *arguments)
    assert done.returncode == code, done.stderr
    return " ".join((done.stdout + done.stderr).split())


async def fill(store: Store) -> None:
    """Put a batch in doubt with three candidates, a lost one and a held one into the database."""
    await drop(store, "doubt.md")
    await intend(store, await seal(store, "_"), "aaaaaaaa", minutes_ago=30)
    await store.dispatch.add_candidates(Nonce("aaaaaaaa"), [UNREADABLE, RUNNING, ApiBatchId("msgbatch_theirs")])
    await store.dispatch.note_unreadable(UNREADABLE, "its results are gone")
    await store.dispatch.rule_out(ApiBatchId("msgbatch_theirs"))
    await drop(store, "lost.md", lane="reports", count=2)
    await store.polling.lose(await send(store, "reports", "LLLLLLLL", count=2))
    await drop(store, "held.md", lane="reports", count=3)
    await hold(store, await seal(store, "reports"))


async def hold(store: Store, batch_id: int) -> None:
    """Hold a batch as a recovery does."""
    async with store.decisions._database.transaction() as transaction:
        await transaction.run(
            "UPDATE batches SET needs_person = 1, held_reason = 'recovered, and not found' WHERE id = ?", (batch_id,)
        )


@pytest.fixture
async def filled(home: Home) -> Home:
    home.make()
    async with open_store(home.state) as store:
        await fill(store)
    return home


async def test_everything_is_told_with_what_comes_next(filled: Home) -> None:
    text = reconcile(filled)

    assert re.search(r"In doubt: batch 1 \(aaaaaaaa\), 1 requests of the inbox, sent 3\dm ago", text)
    assert f"{UNREADABLE}: may be it, and only a person can say so: its results are gone" in text
    assert f"{RUNNING}: may be it; its first result will say so, once it has ended" in text
    assert "msgbatch_theirs: not ours" in text
    assert "`batchbox reconcile --ours` or `--not-ours`" in text
    assert "Lost: batch 2 (msgbatch_01LLLLLLLL00000000000000), 2 requests of lane reports" in text
    assert "`batchbox reconcile --give-up 2`" in text
    assert "Held: batch 3, 3 requests of lane reports: recovered, and not found." in text
    assert "`batchbox reconcile --resend 3`" in text


async def test_the_json_object_has_the_documented_shape(filled: Home) -> None:
    situation: Told = json.loads(reconcile(filled, "--json"))

    assert (situation["format"], situation["running"]) == (1, False)
    (doubt,), (lost,), (held,) = situation["in_doubt"], situation["lost"], situation["held"]
    assert (doubt["id"], doubt["nonce"], doubt["closed"], doubt["recovered"]) == (1, "aaaaaaaa", False, False)
    assert {one["batch_id"]: one["verdict"] for one in doubt["candidates"]} == {
        UNREADABLE: "open",
        RUNNING: "open",
        "msgbatch_theirs": "foreign",
    }
    assert (lost["id"], lost["request_count"], lost["reason"]) == (2, 2, "unknown_batch")
    assert (held["id"], held["request_count"], held["reason"]) == (3, 3, "recovered, and not found")
    documented = filled.call("reconcile", "--help").stdout
    tables = [situation, doubt, doubt["candidates"][0], lost, held]
    assert [key for table in tables for key in table if key not in documented] == []


async def test_with_nothing_undecided_it_says_so(home: Home) -> None:
    home.make()
    async with open_store(home.state):
        pass

    assert reconcile(home) == "Nothing is in doubt, lost or held."


@pytest.mark.parametrize(
    "decision",
    [("--ours", UNREADABLE), ("--not-ours", UNREADABLE), ("--resend", "3"), ("--give-up", "2"), ("--give-up", "3")],
)
async def test_a_decision_without_a_daemon_waits_for_the_next_start(filled: Home, decision: tuple[str, str]) -> None:
    said = reconcile(filled, *decision)

    assert said == "Ordered. No daemon is at work: it will be obeyed at the next start of `batchbox run`."
    assert f"Ordered, and not obeyed yet: {' '.join(decision)}" in reconcile(filled)


@pytest.mark.parametrize(
    ("decision", "why"),
    [
        (("--ours", RUNNING), "its first result says whose it is, once it has ended"),
        (("--not-ours", RUNNING), "its first result says whose it is, once it has ended"),
        (("--ours", "msgbatch_theirs"), "it is known whose msgbatch_theirs is: not ours"),
        (("--ours", "msgbatch_none"), "msgbatch_none is no candidate"),
        (("--resend", "1"), "it is still looked for"),
        (("--resend", "2"), "what it cost is paid; it may be given up"),
        (("--give-up", "1"), "it is still looked for"),
        (("--give-up", "9"), "there is no batch 9"),
    ],
)
async def test_what_is_not_for_a_person_to_decide_is_refused(filled: Home, decision: tuple[str, str], why: str) -> None:
    """At once, with the reason, and nothing is ordered."""
    said = reconcile(filled, *decision, code=1)

    assert said.startswith("batchbox: not done: ")
    assert why in said
    assert "Ordered" not in reconcile(filled)


async def test_beside_a_daemon_the_answer_is_told(filled: Home) -> None:
    """Here the daemon is played: it holds the lock and has obeyed before anybody asks."""
    async with open_store(filled.state) as store, store.orders._database.transaction() as transaction:
        await transaction.run(
            "CREATE TRIGGER obeyed AFTER INSERT ON orders BEGIN "
            "UPDATE orders SET obeyed_at = 1, answer = 'done: it is so' WHERE id = new.id; END"
        )

    with locked(filled.state):
        said = reconcile(filled, "--resend", "3")

    assert said == "done: it is so"


@pytest.mark.parametrize(
    "arguments", [("--resend", "1", "--give-up", "1"), ("--json", "--resend", "1"), ("--for", "1"), ("--resend", "x")]
)
async def test_one_decision_at_a_time(home: Home, arguments: tuple[str, ...]) -> None:
    home.make()

    reconcile(home, *arguments, code=2)


async def test_orders_are_numbered_and_kept(home: Home) -> None:
    """An order that was obeyed is not shown any more, and its answer stays."""
    home.make()
    async with open_store(home.state) as store:
        await fill(store)
        (order,) = await _ordered(home, store)
        await store.orders.answer(order, "done: as asked", now=NOW)

        assert await store.orders.open() == []
        assert await store.orders.answer_to(order) == "done: as asked"


async def _ordered(home: Home, store: Store) -> list[int]:
    reconcile(home, "--resend", "3")
    return [order.id for order in await store.orders.open()]
