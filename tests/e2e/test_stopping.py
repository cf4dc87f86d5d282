"""Stopping: quickly, whatever is under way, and nothing of it is lost."""

import signal
import time

import pytest

from batchbox.simulator import Call, Fault, FaultKind

from .site import Site, prompt, until

STOP_SECONDS = 5.0


async def _stops_in_time(site: Site, fault: Fault) -> None:
    """Stop while the fault keeps a call from its end; then let everything come to its end, bought once."""
    site.simulator.faults.add(fault)
    site.drop("slow.md", prompt("Slow"))
    async with site.daemon() as daemon:
        await until(lambda: not site.simulator.faults.pending, "the call is made")
        await until(lambda: site.simulator.ledger.purchases, "the API has the batch")

        asked_at = time.monotonic()
        code = await daemon.stop()
        taken_seconds = time.monotonic() - asked_at

    assert taken_seconds < STOP_SECONDS
    assert code == 0
    code, _ = await site.run("--drain")
    assert code == 0
    assert len(site.simulator.ledger.purchases) == 1
    assert site.visible("outbox") == {"slow.md", "slow.result.json"}
    site.check_everything_ended()


@pytest.mark.parametrize("call", [Call.CREATE, Call.RESULTS])
async def test_a_stop_does_not_wait_for_a_slow_call(site: Site, call: Call) -> None:
    """SIGTERM ends the daemon within seconds while a call hangs; the work is done after the next start."""
    await _stops_in_time(site, Fault(kind=FaultKind.SLOW_REPLY, call=call, seconds=60))


async def test_a_second_signal_stops_at_once(site: Site) -> None:
    """A second SIGTERM does not wait for anything."""
    site.simulator.faults.add(Fault(kind=FaultKind.SLOW_REPLY, call=Call.CREATE, seconds=60))
    site.drop("slow.md", prompt("Slow"))
    async with site.daemon() as daemon:
        await until(lambda: site.simulator.ledger.purchases, "the API has the batch")

        daemon.signal(signal.SIGTERM)
        await daemon.says("stopping")
        asked_at = time.monotonic()
        daemon.signal(signal.SIGTERM)
        code = await daemon.ended()

        assert time.monotonic() - asked_at < 1
        assert code == 1


async def test_a_stop_while_files_pour_in_loses_none(site: Site) -> None:
    """Stopped in the middle of taking files in: those taken and those left are answered after the next start."""
    for number in range(600):
        site.drop(f"many-{number}.md", prompt(f"Many {number}"))
    async with site.daemon() as daemon:
        await until(site.claims, "files are being taken")
        assert await daemon.stop() == 0

    code, _ = await site.run("--drain")

    assert code == 0
    assert len(site.simulator.ledger.bought) == 600
    assert len(site.visible("outbox")) == 1200
    site.check_everything_ended()
