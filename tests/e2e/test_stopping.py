"""Stopping: quickly, whatever is under way, and nothing of it is lost."""

import contextlib
import signal
import socket
import time
from pathlib import Path

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


async def test_systemd_is_told_of_the_start_of_life_and_of_the_end(site: Site, tmp_path: Path) -> None:
    """READY once, the watchdog fed about twice per interval with a status in words, and STOPPING."""
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.setblocking(False)
        heard: list[str] = []
        told = {"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "400000"}
        async with site.daemon(environment=told, anew=True) as daemon:
            await until(lambda: _listen(manager, heard).count("WATCHDOG=1") > 3, "it shows that it is alive")
            await daemon.stop()
        _listen(manager, heard)

    assert (heard[0], heard.count("READY=1"), heard.count("STOPPING=1")) == ("READY=1", 1, 1)
    assert set(heard[heard.index("STOPPING=1") :]) <= {"STOPPING=1", "WATCHDOG=1"}, "it is alive until it has stopped"
    assert "STATUS=0 waiting, 0 batches open" in heard


def _listen(manager: socket.socket, heard: list[str]) -> list[str]:
    with contextlib.suppress(BlockingIOError):
        while True:
            heard.append(manager.recv(4096).decode())
    return heard
