"""Starting: what is missing is said at once and whole, with an exit code that keeps systemd from trying again."""

import asyncio
import json
import shutil

from batchbox.simulator import SimulatorSettings, serve

from .conftest import OpenSite
from .site import KEY, SECRET, Site, prompt, until


async def test_without_a_key_the_three_ways_to_give_one_are_named(site: Site) -> None:
    """No key is 78, and the message names key_file, the systemd credential and the environment variable."""
    code, log = await site.run(key=None, anew=True)

    assert code == 78
    for way in ("key_file", "LoadCredential=", "ANTHROPIC_API_KEY"):
        assert way in log


async def test_a_broken_configuration_is_told_whole(site: Site) -> None:
    """Every problem of the configuration is named in one go, with its key, and the exit code is 78."""
    site.configure(
        poll={"first": "soon", "max": 0.5},
        window={"max_requests": 0},
        defaults={"model": "claude-opus-5-5", "colour": "red"},
        inbox={"detection": "magic"},
    )

    code, log = await site.run()

    assert code == 78
    for key in ("first", "max_requests", "colour", "detection"):
        assert key in log
    assert not site.state.exists()


async def test_a_root_without_identity_is_not_touched(site: Site) -> None:
    """A folder that `init` never saw is 78 and stays as it is: it may be a share that is not mounted."""
    shutil.rmtree(site.root)
    site.root.mkdir()

    code, log = await site.run()

    assert code == 78
    assert "batchbox init" in log
    assert list(site.root.iterdir()) == []


async def test_a_second_daemon_on_one_state_is_refused(site: Site) -> None:
    """Two daemons never share a state folder; the first goes on undisturbed."""
    async with site.daemon() as first:
        await first.says("started")

        code, log = await site.run()

        site.drop("after.md", prompt("After"))
        await site.answers("after")
        assert code == 1
        assert "another batchbox is running" in log
        assert await first.stop() == 0
    assert len(site.simulator.ledger.bought) == 1


async def test_a_drain_without_errors_exits_with_0(site: Site) -> None:
    """`run --drain` brings what is there to its end, leaves no sign of itself on the share, and exits with 0."""
    site.drop("one.md", prompt("One"))

    code, log = await site.run("--drain", anew=True)

    assert code == 0, log
    assert {"one.md", "one.result.json"} == site.visible("outbox")
    assert list(site.root.glob("processing/*/.heartbeat")) == []
    site.check_everything_ended()


async def test_a_drain_with_errors_exits_with_3(site: Site) -> None:
    """`run --drain` after which something was rejected, failed or stayed incomplete exits with 3."""
    site.drop("good.md", prompt("Good"))
    site.drop("rejected.json", "{]")
    site.configure(log={"level": "debug", "format": "json"})

    code, log = await site.run("--drain")

    assert code == 3
    assert "good.result.json" in site.visible("outbox")
    assert all(json.loads(line)["event"] for line in log.splitlines())
    assert SECRET not in log
    assert KEY not in log


async def test_an_api_that_is_away_is_waited_for(open_new_site: OpenSite) -> None:
    """Files dropped while nobody answers at the API's address are sent when somebody does."""
    async with serve(SimulatorSettings()) as gone:
        port = int(gone.base_url.rpartition(":")[2])
    async with open_new_site(None) as site:
        site.configure(api={"base_url": f"http://127.0.0.1:{port}"})
        site.drop("patient.md", prompt("Patient"))
        async with site.daemon() as daemon:
            await daemon.says("sending holds")

            async with serve(SimulatorSettings(port=port, processing_seconds=0.2)) as simulator:
                await site.answers("patient")

                assert len(simulator.ledger.bought) == 1
                assert site.document("patient.result.json")["attempts"] == 1
                assert await daemon.stop() == 0


async def test_a_root_that_goes_away_is_waited_for(site: Site) -> None:
    """While the root is away, or an empty folder in its place, nothing is written anywhere; then all goes on."""
    away = site.root.with_name("away")
    async with site.daemon() as daemon:
        site.drop("before.md", prompt("Before"))
        await until(lambda: site.simulator.ledger.purchases, "the batch is sent")
        site.root.rename(away)
        await daemon.says("root cannot be worked on")
        site.root.mkdir()
        await asyncio.sleep(1)  # long enough for several attempts to see the empty folder
        seen_in_place = list(site.root.iterdir())
        site.root.rmdir()
        away.rename(site.root)
        site.drop("after.md", prompt("After"))
        await site.answers("before", "after")
        await site.settles()

        assert seen_in_place == []
        assert await daemon.stop() == 0
    assert len(site.simulator.ledger.purchases) == 2
    site.check_everything_ended()


async def test_a_new_answer_may_replace_the_old_one(site: Site) -> None:
    """With on_existing = "replace" the second answer of a custom_id takes the first one's place, all its files."""
    site.configure(outbox={"on_existing": "replace"})
    (site.root / "outbox" / "theirs.md").write_text("not made by batchbox")
    site.drop("mine.md", "+++\nmax_tokens = 50\n+++\n" + prompt("[[simulate tokens=300]] Old"))
    async with site.daemon() as daemon:
        await site.answers("mine")
        await site.settles()
        site.drop("mine.md", prompt("New"))
        site.drop("theirs.md", prompt("Theirs"))
        await until(lambda: "mine.md" in site.visible("outbox"), "the new answer is there")
        await site.answers("mine", "theirs__2")
        await site.settles()
        assert await daemon.stop() == 0

    assert "New" in site.text("mine.md")
    assert site.document("mine.result.json")["status"] == "answered"
    assert site.text("theirs.md") == "not made by batchbox"
    assert {name for name in site.visible("outbox") if name.startswith("mine")} == {"mine.md", "mine.result.json"}


async def test_a_daemon_whose_work_was_taken_over_stops(site: Site) -> None:
    """When its folder in processing/ has gone, the daemon sends nothing more and exits with 78, saying so."""
    async with site.daemon() as daemon:
        await daemon.says("started")
        await until(lambda: list(site.root.glob("processing/*/.heartbeat")), "it has shown that it is alive")
        (own,) = site.root.glob("processing/*")
        own.rename(site.root / "processing" / "taken-over")

        site.drop("late.md", prompt("Late"))
        code = await daemon.ended()

    assert code == 78
    assert "taken over" in daemon.log
    assert site.simulator.ledger.attempts == ()
    assert site.waiting() == ["late.md"]
