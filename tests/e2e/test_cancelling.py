"""People take back what they dropped, with nothing but a file."""

import json

from batchbox.simulator import SimulatorSettings, serve

from .conftest import OpenSite
from .site import Site, prompt, request, until

ENDLESS = SimulatorSettings(processing_seconds=86_000, canceling_seconds=0.1)


async def take_back(site: Site, name: str, *, lane: str = "") -> None:
    """Drop a `.cancel` file, empty, as people make it, and wait until it is obeyed."""
    sign = site.root / "inbox" / lane / f"{name}.cancel"
    sign.touch()
    await until(lambda: not sign.exists(), f"{sign.name} is obeyed")


async def test_whatever_is_taken_back_ends_as_cancelled_and_its_batch_is_stopped(open_new_site: OpenSite) -> None:
    """In the inbox, waiting, and with the API, across a kill; only what is not taken back goes on."""
    async with serve(ENDLESS) as simulator, open_new_site(simulator) as site:
        site.configure(
            lanes={"later": {"window": {"max_wait": "1h"}}, "marked": {"require_marker": True}},
        )
        for lane in ("later", "marked"):
            (site.root / "inbox" / lane).mkdir()
        async with site.daemon() as daemon:
            site.drop("report.md", prompt("# Report"))
            site.drop("notes.jsonl", "\n".join(json.dumps(request(f"note {number}")) for number in range(2)))
            await until(lambda: len(simulator.ledger.purchases) == 3, "everything is with the API")
            await take_back(site, "report.md")
            await daemon.kill()
        assert site.visible("outbox") == set()

        async with site.daemon() as daemon:
            site.drop("waits.md", prompt("# Later"), lane="later")
            site.drop("unmarked.md", prompt("# Marked"), lane="marked")
            await until(lambda: site.waiting() == ["unmarked.md"], "what waits for no marker is taken")
            await take_back(site, "waits", lane="later")
            await take_back(site, "unmarked.md", lane="marked")
            await site.ends("waits.error.json", lane="later")
            await take_back(site, "notes.jsonl")
            await site.ends("report.error.json", "notes-1.error.json", "notes-2.error.json")
            (site.root / "inbox" / "report.md.cancel").touch()
            await until(lambda: "report.md.cancel" in site.visible("rejected"), "what has ended stays as it is")
            await site.settles()
            assert await daemon.stop() == 0

        assert site.visible("outbox") == {"report.error.json", "notes-1.error.json", "notes-2.error.json"}
        for stem in ("report", "notes-1", "notes-2"):
            document = site.document(f"{stem}.error.json")
            assert (document["error"]["type"], document["billed"], document["cost_usd"]) == ("canceled", False, 0)
        assert site.document("waits.error.json", "later")["batch_ids"] == []
        assert site.visible("rejected", "marked") == {"unmarked.md", "unmarked.md.error.txt"}
        assert site.explanation("report.md.cancel")["Reason"] == "nothing_to_cancel"
        assert len(simulator.ledger.purchases) == 3
        site.check_everything_ended()


async def test_a_lane_with_markers_takes_files_that_were_written_slowly_whole(site: Site) -> None:
    """The writer pauses for longer than anybody would wait for it, and says when it is done."""
    site.configure(lanes={"marked": {"require_marker": True}})
    folder = site.root / "inbox" / "marked"
    folder.mkdir()
    async with site.daemon() as daemon:
        with (folder / "slow.md").open("w") as file:
            file.write("Half of it, ")
            file.flush()
            site.drop("other.md", prompt("# Other"))
            await site.answers("other")
            file.write(prompt("and the rest."))
        (folder / "slow.md.ready").touch()
        await site.answers("slow", lane="marked")
        await site.settles()
        assert await daemon.stop() == 0

    assert site.visible("done", "marked") == {"slow.md"}
    assert "and the rest." in (site.root / "done" / "marked" / "slow.md").read_text()
