"""Attack 19, filling the disk: below the low-water mark nothing is claimed and nothing sent, and answers go first."""

from pathlib import Path

from batchbox.simulator import SimulatorSettings, serve
from e2e.site import Site, open_site, prompt, until
from forking import ForkServer

MORE_THAN_THERE_IS = "1000TB"
PROCESSING_SECONDS = 2.0
"""While the answer is waited for, the inbox is looked at several times."""


async def test_below_the_mark_answers_are_written_and_nothing_else_is_begun(tmp_path: Path, forks: ForkServer) -> None:
    async with (
        serve(SimulatorSettings(processing_seconds=PROCESSING_SECONDS)) as simulator,
        open_site(tmp_path, forks, simulator) as site,
    ):
        await _leave_one_in_flight(site, "bought.md")
        await _leave_one_unsent(site, "recorded.md")
        site.drop("dropped.md", prompt("Wait"))

        site.configure(inbox={"min_free": MORE_THAN_THERE_IS})
        async with site.daemon() as daemon:
            await daemon.says("less than [inbox] min_free")
            await site.answers("bought")
            await until(lambda: len(site.claims()) == 1, "its file is done")

            assert site.waiting() == ["dropped.md"]
            assert site.claims()[0].endswith("~recorded.md")
            assert len(simulator.ledger.attempts) == 1
            await daemon.stop()

        site.configure()
        async with site.daemon() as daemon:
            await site.answers("recorded", "dropped")
            await daemon.stop()
        site.check_everything_ended()


async def _leave_one_in_flight(site: Site, name: str) -> None:
    site.drop(name, prompt("Answer while there is room"))
    async with site.daemon():
        await until(lambda: site.simulator.ledger.purchases, "it is bought")


async def _leave_one_unsent(site: Site, name: str) -> None:
    site.configure(window={"max_wait": 3600})
    async with site.daemon() as daemon:
        site.drop(name, prompt("Be recorded"))
        await daemon.says(f"file taken file={name}")
