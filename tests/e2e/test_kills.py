"""The process dies, at any moment: after the next start everything goes on, and nothing is lost or bought twice."""

import asyncio
import random

import pytest

from batchbox.simulator import Call, Fault, FaultKind, SimulatorSettings, serve

from .conftest import OpenSite
from .site import Site, prompt, until

LONG_SECONDS = 30.0


def _stems(word: str, count: int) -> list[str]:
    return [f"{word}-{number}" for number in range(count)]


def _drop_all(site: Site, word: str, count: int, *, text: str = "") -> None:
    for stem in _stems(word, count):
        site.drop(f"{stem}.md", prompt(f"{text} {stem}"))


def _check_each_was_bought_and_answered_once(site: Site, count: int) -> None:
    assert len(site.simulator.ledger.bought) == count
    assert len([name for name in site.visible("outbox") if name.endswith(".result.json")]) == count
    assert not [name for name in site.visible("outbox") if "__" in name]
    assert len(site.visible("done")) == count
    site.check_everything_ended()


async def test_killed_at_every_stage_of_the_way(open_new_site: OpenSite) -> None:
    """Killed after the claim, in the POST and while results are awaited: each request is bought and delivered once."""
    async with serve(SimulatorSettings(speed=0, processing_seconds=10)) as simulator, open_new_site(simulator) as site:
        _drop_all(site, "story", 20)
        async with site.daemon() as daemon:
            await until(site.claims, "files are claimed")
            await daemon.kill()

        simulator.faults.add(Fault(kind=FaultKind.SLOW_REPLY, call=Call.CREATE, seconds=LONG_SECONDS))
        async with site.daemon() as daemon:
            await until(lambda: simulator.ledger.purchases, "the API has the batch, and has not said so")
            await daemon.kill()

        async with site.daemon() as daemon:
            await daemon.says("started")
            simulator.clock.advance(11)
            simulator.faults.add(Fault(kind=FaultKind.SLOW_REPLY, call=Call.RESULTS, seconds=LONG_SECONDS, skip=1))
            await until(lambda: not simulator.faults.pending, "the results are asked for, and do not come")
            await daemon.kill()

        code, log = await site.run("--drain")

        assert code == 0, log
        _check_each_was_bought_and_answered_once(site, 20)


async def test_killed_while_the_batch_runs(open_new_site: OpenSite) -> None:
    """A batch that ended while no daemon ran is fetched after the next start."""
    async with serve(SimulatorSettings(speed=0, processing_seconds=10)) as simulator, open_new_site(simulator) as site:
        _drop_all(site, "away", 3)
        async with site.daemon() as daemon:
            await daemon.says("batch accepted")
            await daemon.kill()
        simulator.clock.advance(11)

        code, _ = await site.run("--drain")

        assert code == 0
        assert len(simulator.ledger.attempts) == 1
        _check_each_was_bought_and_answered_once(site, 3)


async def test_killed_in_the_middle_of_delivery(open_new_site: OpenSite) -> None:
    """Killed when some answers are in the outbox and others are not: the others follow, none comes twice."""
    settings = SimulatorSettings(processing_seconds=0.2, answer_tokens=2000)
    async with serve(settings) as simulator, open_new_site(simulator) as site:
        _drop_all(site, "many", 1200)
        async with site.daemon() as daemon:
            await until(lambda: len(site.visible("outbox")) > 0, "the first answers are visible", seconds=30)
            await daemon.kill()
        delivered = len(site.visible("outbox"))

        code, _ = await site.run("--drain")

        assert 0 < delivered < 2400, "the kill came in the middle"
        assert code == 0
        _check_each_was_bought_and_answered_once(site, 1200)


@pytest.mark.slow
@pytest.mark.timeout(200)
async def test_killed_again_and_again_at_any_moment(site: Site) -> None:
    """Killed five times at moments that nobody chose, while files keep coming: each is bought once, answered once."""
    moments = random.Random(7)  # noqa: S311 - to be repeatable
    for life in range(5):
        _drop_all(site, f"life{life}", 40)
        async with site.daemon() as daemon:
            await daemon.says("started")
            await asyncio.sleep(moments.uniform(0.0, 1.2))
            await daemon.kill()

    code, log = await site.run("--drain")

    assert code == 0, log
    _check_each_was_bought_and_answered_once(site, 200)
