"""A database that is lost or older than what was sent: nothing is sent under it, and `recover` mends it."""

import tempfile
from pathlib import Path

from batchbox.simulator import Call, Fault, FaultKind, SimulatorSettings, serve

from .conftest import OpenSite
from .site import KEY, Site, prompt, until


async def command(site: Site, *arguments: str) -> tuple[int, str]:
    """Run one of the other commands to its end; return the exit code and what it said, in one line."""
    assert site._forks is not None
    with tempfile.TemporaryFile("w+") as output:
        process = site._forks.spawn(
            [*arguments, "--config", str(site.config_file)],
            program=None,
            environment=site._environment(KEY, anew=False) | {"COLUMNS": "1000"},
            cwd=site.root.parent,
            stdout=output.fileno(),
            stderr=output.fileno(),
        )
        code = await process.ended()
        output.seek(0)
        return code, " ".join(output.read().split())


def lose_database(state: Path) -> None:
    for path in state.glob("batchbox.db*"):
        path.unlink()


async def test_a_lost_database_is_noticed_and_mended(open_new_site: OpenSite) -> None:
    """The batch that ran is found again by its name; a file that was not sent yet goes out as ever."""
    async with serve(SimulatorSettings(speed=0, processing_seconds=10)) as simulator, open_new_site(simulator) as site:
        site.drop("a.md", prompt("a"))
        async with site.daemon() as daemon:
            await daemon.says("batch accepted")
            await daemon.kill()
        lose_database(site.state)

        code, log = await site.run()
        assert code == 78
        assert "Run `batchbox recover`" in log
        mended, said = await command(site, "recover")
        assert mended == 0, said
        assert "In doubt from now on: 1 batch with 1 request." in said
        site.drop("b.md", prompt("b"))
        async with site.daemon("--drain") as daemon:
            await until(lambda: len(simulator.ledger.purchases) == 2, "the new file is sent")
            simulator.clock.advance(11)
            assert await daemon.ended() == 0, daemon.log

        assert {"a.result.json", "b.result.json"} <= site.visible("outbox")
        site.check_everything_ended()


async def test_what_is_not_found_waits_for_a_person(open_new_site: OpenSite) -> None:
    """`run --drain` ends all the same, and says who has to act; `reconcile` says how."""
    async with serve(SimulatorSettings(processing_seconds=0.1)) as simulator, open_new_site(simulator) as site:
        simulator.faults.add(Fault(kind=FaultKind.SLOW_REPLY, call=Call.CREATE, seconds=30))
        site.drop("a.md", prompt("a"))
        async with site.daemon() as daemon:
            await until(lambda: simulator.ledger.purchases, "the API has the batch")
            await daemon.kill()
        lose_database(site.state)
        (manifest,) = site.root.glob(".batchbox/batches/*/*.jsonl")
        manifest.write_bytes(manifest.read_bytes().replace(b'"count":1', b'"count":7'))  # so that it is not found

        await command(site, "recover")
        code, log = await site.run("--drain")
        _, listed = await command(site, "reconcile")
        ordered, answer = await command(site, "reconcile", "--resend", "1")
        _, waiting = await command(site, "reconcile")

        assert code == 3
        assert "batch needs a person" in log
        assert "Held: batch 1, 1 requests of the inbox" in listed
        assert "`batchbox reconcile --resend 1`" in listed
        assert (ordered, "obeyed at the next start" in answer) == (0, True)
        assert "not obeyed yet: --resend 1" in waiting


async def test_another_machine_takes_over(open_new_site: OpenSite) -> None:
    """Without a name the others are listed; the one that is lost is taken over, and its batch is delivered."""
    async with serve(SimulatorSettings(speed=0, processing_seconds=10)) as simulator, open_new_site(simulator) as site:
        site.drop("a.md", prompt("a"))
        async with site.daemon() as daemon:
            await daemon.says("batch accepted")
            await daemon.stop()
        (old,) = [path.name for path in (site.root / "processing").iterdir()]
        site.configure(paths={"root": str(site.root), "state": str(site.state.parent / "other")})

        _, listed = await command(site, "recover")
        _, checked = await command(site, "check", "--offline")
        code, said = await command(site, "recover", old)
        simulator.clock.advance(11)
        drained, log = await site.run("--drain")

        assert f"{old}: stopped; 1 file taken, 1 batch open" in listed
        assert f"batchbox recover {old}" in listed
        assert f"batchbox recover {old}" in checked
        assert code == 0, said
        assert drained == 0, log
        assert {"a.md", "a.result.json"} == site.visible("outbox")
        assert old not in {path.name for path in (site.root / "processing").iterdir()}
