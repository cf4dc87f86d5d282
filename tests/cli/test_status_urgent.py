"""`batchbox status` about results that will soon be gone, and about every kind of hold."""

from datetime import timedelta
from io import StringIO

import pytest
from rich.console import Console

from batchbox.api import RESULTS_KEPT
from batchbox.cli.neighbours import Neighbourhood
from batchbox.cli.status.page import page
from batchbox.cli.status.situation import Situation, as_json_object, read_situation
from batchbox.store import open_store
from batchbox.store.holds import HoldName

from .bench import NOW, Home, drop, send


async def situation_after(home: Home, days: float) -> Situation:
    """Return what is seen so many days after a batch was made, when it is in progress still."""
    home.make()
    async with open_store(home.state) as store:
        await drop(store, "a.md")
        await send(store, "_", "AAAAAAAA", count=1)
    return await read_situation(home.root, home.state, NOW + timedelta(days=days), Neighbourhood(home.root))


def shown(situation: Situation) -> str:
    """Return the page with every run of spaces and line ends as one space."""
    paper = StringIO()
    Console(file=paper, width=100, markup=False, emoji=False, highlight=False).print(page(situation, grace_seconds=900))
    return " ".join(paper.getvalue().split())


@pytest.mark.parametrize(("days", "is_urgent"), [(1, False), (24, False), (26, True), (28.5, True), (40, True)])
async def test_from_the_25th_day_on_the_page_says_that_results_will_soon_be_gone(
    home: Home, days: float, is_urgent: bool
) -> None:
    text = shown(await situation_after(home, days))

    assert ("Soon gone: batch 1. The API deletes results 29 days after a batch was made" in text) is is_urgent


async def test_the_object_says_until_when(home: Home) -> None:
    situation = await situation_after(home, 1)

    (batch,) = situation.batches
    assert batch.results_until is not None
    assert as_json_object(situation)["batches"][0]["results_until"] == batch.results_until.isoformat()  # type: ignore[index] # a list
    assert abs(batch.results_until - NOW - RESULTS_KEPT) < timedelta(minutes=10)


@pytest.mark.parametrize("name", HoldName)
async def test_every_hold_has_words_of_its_own(home: Home, name: HoldName) -> None:
    home.make()
    async with open_store(home.state) as store:
        await store.holds.put(name, "the reason", now=NOW, next_attempt_at=None)

    text = shown(await read_situation(home.root, home.state, NOW, Neighbourhood(home.root)))

    assert "the reason." in text
