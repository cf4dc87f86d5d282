"""The chaos, in its short form: little of everything, by another chance each time."""

import random
from pathlib import Path

import pytest

from forking import ForkServer
from suites.mutants import plant

from .drops import Kind
from .mistakes import MISTAKES, Planted
from .run import Plan, run

SHORT = {
    Kind.ATOMIC: 24,
    Kind.SLOW: 8,
    Kind.STALLING: 6,
    Kind.PREALLOCATING: 4,
    Kind.APPENDING: 4,
    Kind.AGAIN: 6,
    Kind.CANCELED: 6,
}
LONG = {kind: 220 if kind is not Kind.STALLING else 200 for kind in Kind}


@pytest.mark.timeout(120)
async def test_whatever_happens_every_file_is_sent_once_and_whole(tmp_path: Path, forks: ForkServer) -> None:
    plan = Plan(
        files=SHORT,
        seed=random.SystemRandom().randrange(10**6),
        kill_every=1.0,
        away_every=3.0,
        lost_reply_every=3.0,
        grace=2.0,
    )

    verdict = await run(plan, tmp_path, forks)

    assert not verdict.complaints, f"{plan}: {verdict}"
    assert verdict.kill_count >= 1
    assert verdict.away_count >= 1


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_it_holds_for_fifteen_hundred_files(tmp_path: Path, forks: ForkServer) -> None:
    plan = Plan(files=LONG, seed=random.SystemRandom().randrange(10**6))

    verdict = await run(plan, tmp_path, forks)

    assert not verdict.complaints, f"{plan}: {verdict}"
    assert verdict.file_count >= 1500


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("planted", MISTAKES, ids=lambda planted: planted.mutation.name)
async def test_mistakes_are_noticed(tmp_path: Path, planted: Planted) -> None:
    plan = Plan(files=planted.files, seed=1, lost_reply_every=1.0, grace=2.0, settle_within=60.0)
    (tmp_path / "place").mkdir()

    with ForkServer(source=plant(planted.mutation, tmp_path)) as mutants:
        verdict = await run(plan, tmp_path / "place", mutants)

    assert verdict.complaints, f"{plan}: {verdict}"
