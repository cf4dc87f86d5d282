"""`batchbox status`: what waits, what is under way, and what stands in the way."""

import json
import os
import pty
import select
import signal
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from batchbox.lifecycle import RequestEvent
from batchbox.store import Store, open_store
from batchbox.store.holds import HoldName
from batchbox.store.state_folder import locked

from .bench import NOW, Home, drop, drop_bad, end, intend, obeys_modes, seal, send, started

DOUBT = "In doubt: batch 1."
MARKUP = "[red]not red[/red] \x1b[31m \u202e"
MARKUP_SHOWN = "[red]not red[/red] \\x1b[31m \\u202e"


Told = Any
"""Any: what JSON can hold, a recursive type."""


def told(home: Home) -> Told:
    done = home.call("status", "--json", "--config", str(home.config))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def page(home: Home) -> str:
    """Return the page with every run of spaces and line ends as one space."""
    done = home.call("status", "--config", str(home.config))
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split())


async def fill(store: Store) -> None:
    """Put something of every kind into the database: five batches, four lanes, a rejected file."""
    await drop(store, "mixed.jsonl", count=5)
    batch_id = await send(store, "_", "AAAAAAAA", count=5)
    ends = (RequestEvent.ANSWER, RequestEvent.ANSWER, RequestEvent.CUT_SHORT, RequestEvent.FAIL)
    await end(store, batch_id, "AAAAAAAA", events=ends)
    await drop(store, "far.jsonl", lane="reports", count=40)
    await send(store, "reports", "BBBBBBBB", count=40)
    await drop(store, "doubt.md", lane="doubts")
    await intend(store, await seal(store, "doubts"), "CCCCCCCC", minutes_ago=90)
    await drop(store, "near.md", lane="reports", count=3)
    await seal(store, "reports")
    await drop(store, "lost.md", lane="losses")
    await store.polling.lose(await send(store, "losses", "LLLLLLLL", count=1))
    await drop(store, "new.md", lane="reports", count=2)
    await drop_bad(store, "bad.json")


async def test_the_json_object_has_the_documented_shape(home: Home) -> None:
    home.make()
    async with open_store(home.state) as store:
        await fill(store)
        await store.holds.put(HoldName.SENDING, "no credit", now=NOW, next_attempt_at=NOW + timedelta(minutes=3))

    situation = told(home)

    assert (situation["format"], situation["root"], situation["state"]) == (1, str(home.root), str(home.state))
    assert (situation["running"], situation["cost_usd"]) == (False, 0.04)
    assert {lane.pop("lane"): lane for lane in situation["lanes"]}.items() >= {
        "_": {"waiting": 0, "in_flight": 1, "answered": 2, "incomplete": 1, "failed": 1},
        "reports": {"waiting": 2, "in_flight": 43, "answered": 0, "incomplete": 0, "failed": 0},
    }.items()
    assert situation["files"] == {"reading": 0, "open": 6, "settled": 0, "done": 0, "rejecting": 1, "rejected": 0}
    assert [(batch["state"], batch["in_doubt"], batch["request_count"]) for batch in situation["batches"]] == [
        ("ended", False, 5),
        ("in_progress", False, 40),
        ("submitting", True, 1),
        ("sealed", False, 3),
        ("lost", False, 1),
    ]
    assert situation["batches"][1]["batch_id"] == "msgbatch_01BBBBBBBB00000000000000"
    assert situation["batches"][1]["nonce"] == "BBBBBBBB"
    assert situation["batches"][1].keys() == {
        *("id", "lane", "state", "in_doubt", "request_count", "sealed_at", "sent_at", "expires_at", "results_until"),
        *("lost_reason", "held_reason", "batch_id", "nonce"),
    }
    assert [(hold["name"], hold["reason"]) for hold in situation["holds"]] == [("sending", "no credit")]
    assert situation["holds"][0].keys() == {"name", "reason", "since_at", "next_attempt_at"}


async def test_the_help_documents_every_key_of_the_object(home: Home) -> None:
    home.make()
    async with open_store(home.state) as store:
        await fill(store)
        await store.holds.put(HoldName.ROOT, "away", now=NOW, next_attempt_at=None)

    situation = told(home)

    documented = home.call("status", "--help").stdout
    lists = [situation[name][0] for name in ("lanes", "batches", "holds")]
    keys = {key for table in (situation, situation["files"], *lists) for key in table}
    assert [key for key in sorted(keys) if key not in documented] == []


async def test_the_page_fits_80_columns_and_names_every_batch_in_full(home: Home) -> None:
    home.make()
    async with open_store(home.state) as store:
        await fill(store)

    done = home.call("status", "--config", str(home.config))

    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert "msgbatch_01BBBBBBBB00000000000000" in done.stdout
    assert "…" not in done.stdout


async def test_a_batch_that_waits_while_others_go_on_is_told_with_the_reason(home: Home) -> None:
    home.make()
    async with open_store(home.state) as store:
        await drop(store, "held.md")
        held = await seal(store, "_")
        await store.dispatch.hold(held, "its upload was ended 3 times")
        await drop(store, "late.md", lane="fax")
        waiting = await seal(store, "fax")
        await store.dispatch.note_file_trouble(waiting, "late.md cannot be read once more")

    shown = page(home)

    assert f"Waiting: batch {held}. It is tried again by itself: its upload was ended 3 times." in shown
    assert f"Waiting: batch {waiting}. " in shown
    assert "late.md cannot be read once more." in shown


async def test_a_batch_in_doubt_is_marked_with_what_comes_next(home: Home) -> None:
    home.make()
    async with open_store(home.state) as store:
        await drop(store, "doubt.md")
        await intend(store, await seal(store, "_"), "CCCCCCCC", minutes_ago=90)

    stopped = page(home)
    with locked(home.state):
        running = page(home)

    assert "IN DOUBT" in stopped
    assert DOUBT in stopped
    assert "now the answer to the send call is missing" in stopped
    assert "`batchbox reconcile` shows more." in stopped
    assert "Next: start `batchbox run`" in stopped
    assert "Next: batchbox searches the API's list, for 15m at least" in running


async def test_a_call_that_was_just_begun_is_in_doubt_only_if_nobody_makes_it(home: Home) -> None:
    """An intent without an outcome: a running daemon is inside the call, a dead one is not."""
    home.make()
    async with open_store(home.state) as store:
        await drop(store, "now.md")
        await intend(store, await seal(store, "_"), "CCCCCCCC", minutes_ago=-60)

    with locked(home.state):
        running = told(home)
    stopped = told(home)

    assert (running["running"], running["batches"][0]["in_doubt"]) == (True, False)
    assert (stopped["running"], stopped["batches"][0]["in_doubt"]) == (False, True)


async def test_a_lost_batch_is_explained(home: Home) -> None:
    home.make()
    async with open_store(home.state) as store:
        await drop(store, "lost.md")
        await store.polling.lose(await send(store, "_", "LLLLLLLL", count=1))

    text = page(home)

    assert "Lost: batch 1. The API does not know it any more" in text


async def test_a_hold_says_why_and_when_it_is_tried_again(home: Home) -> None:
    home.make()
    async with open_store(home.state) as store:
        later = NOW + timedelta(hours=5, minutes=30)
        await store.holds.put(HoldName.SENDING, "the credit is used up", now=NOW, next_attempt_at=later)

    stopped = page(home)
    with locked(home.state):
        running = page(home)

    assert "Nothing is sent, for " in stopped
    assert "the credit is used up. Next attempt: when `batchbox run` is started." in stopped
    assert "the credit is used up. Next attempt: in 5h." in running


async def test_names_and_reasons_are_shown_as_they_are(home: Home) -> None:
    """Neither rich's markup nor a terminal's escape codes in a lane's name or in a server's words do anything."""
    home.make()
    async with open_store(home.state) as store:
        await drop(store, "a.md", lane=MARKUP)
        await store.holds.put(HoldName.API, f"it said: {MARKUP}", now=NOW, next_attempt_at=None)

    done = home.call("status", "--config", str(home.config), COLUMNS="200")

    assert done.stdout.count(MARKUP_SHOWN) == 2
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout


async def test_a_terminal_that_knows_only_ascii_gets_a_page_too(home: Home) -> None:
    home.make()
    async with open_store(home.state) as store:
        await drop(store, "a.md", lane="größe")

    done = home.call("status", "--config", str(home.config), anew=True, PYTHONIOENCODING="ascii")

    assert done.returncode == 0, done.stderr
    assert "gr\\xf6\\xdfe" in done.stdout


async def test_an_empty_database_says_where_to_drop_something(home: Home) -> None:
    home.make()
    async with open_store(home.state):
        pass

    done = home.call("status", "--config", str(home.config), COLUMNS="300")

    assert f"Nothing has been dropped yet. Drop a file into {home.root}/inbox." in done.stdout


def test_before_the_first_start_it_says_so(home: Home) -> None:
    home.make()

    done = home.call("status", "--config", str(home.config))

    assert done.returncode == 78
    assert "there is no database yet" in done.stderr


@pytest.mark.skipif(not obeys_modes(), reason="root may read everything, and there is no setpriv to change that")
def test_a_state_folder_of_somebody_else_is_a_matter_of_permissions(home: Home) -> None:
    home.make()
    home.state.chmod(0)

    done = home.call("status", "--config", str(home.config), as_root=False)

    assert done.returncode == 77
    assert "Run this as the user who runs batchbox" in done.stderr


def test_a_file_that_is_no_database_is_named(home: Home) -> None:
    home.make()
    (home.state / "batchbox.db").write_bytes(b"not a database at all, and long enough for nobody to think so" * 20)

    done = home.call("status", "--config", str(home.config))

    assert done.returncode == 78
    assert done.stderr.startswith(f"batchbox: {home.state}/batchbox.db: ")


async def test_asking_does_not_keep_a_daemon_from_starting(home: Home) -> None:
    """The lock is let go before the command ends its work: a daemon may take it right after."""
    home.make()
    async with open_store(home.state):
        situation = told(home)

        with locked(home.state):
            during = told(home)

    assert (situation["running"], during["running"]) == (False, True)


def test_watch_needs_a_terminal(home: Home) -> None:
    home.make()

    done = home.call("status", "--watch", "--config", str(home.config))

    assert done.returncode == 2
    assert "--watch needs a terminal" in done.stderr


class Terminal:
    """A terminal with a command in it."""

    def __init__(self, home: Home, *arguments: str) -> None:
        self._screen, own_end = pty.openpty()
        self._process = home.forks.spawn(
            arguments,
            environment=home.environment(TERM="xterm"),
            cwd=home.path,
            stdin=own_end,
            stdout=own_end,
            stderr=own_end,
        )
        os.close(own_end)

    def read_until(self, wanted: bytes) -> None:
        """Read what is shown until the words are there, for 20 seconds at most."""
        seen = b""
        while wanted not in seen:
            ready, _, _ = select.select([self._screen], [], [], 20)
            assert ready, seen
            seen += os.read(self._screen, 4096)

    def interrupt(self) -> int:
        """Do what Ctrl-C does; return the exit code."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(timeout_seconds=20)

    def close(self) -> None:
        """Leave nothing behind."""
        self._process.kill()
        os.close(self._screen)


async def test_watch_shows_what_is_new_until_it_is_interrupted(home: Home) -> None:
    home.make()
    async with open_store(home.state) as store:
        with closing(Terminal(home, "status", "--watch", "--config", str(home.config))) as terminal:
            terminal.read_until(b"Nothing has been dropped yet")
            await drop(store, "a.md", lane="arrivals")
            terminal.read_until(b"arrivals")

            code = terminal.interrupt()

    assert code == 0


def test_it_tells_a_running_daemon_from_a_stopped_one(home: Home) -> None:
    """The real one, which takes the lock itself."""
    key = home.path / "key"
    key.write_text("key")
    home.make(f'[defaults]\nmodel = "claude-opus-5-5"\n[api]\nbase_url = "http://127.0.0.1:9"\nkey_file = "{key}"\n')

    with started(home, "run", "--config", str(home.config)) as daemon:
        assert daemon.stderr is not None
        while "started" not in daemon.stderr.readline():
            assert daemon.poll() is None
        during = told(home)
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=20)
    after = told(home)

    assert (during["running"], after["running"]) == (True, False)
