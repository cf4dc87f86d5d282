"""A stage that cannot record what it did: it is stepped again, in no hurry, until it can."""

import logging
from collections import deque
from datetime import UTC, datetime

import anyio
import pytest

from batchbox.errors import RetiredError, StateBrokenError, StateNotWritableError
from batchbox.model import Now
from batchbox.service.driving import RECORDING_SECONDS_MAX, Patient, drive
from batchbox.service.signs import Bell, Pulse

FULL = StateNotWritableError("batchbox.db: nothing can be recorded")


def at(monotonic: float) -> Now:
    return Now(wall=datetime(2026, 8, 1, tzinfo=UTC), monotonic=monotonic)


class Scripted:
    """A stage whose steps fare as they are told to."""

    def __init__(self, *outcomes: Exception | float) -> None:
        self.outcomes = deque(outcomes)
        self.step_count = 0

    async def step(self, now: Now) -> float:
        """Fare as the script says; its last line holds for good."""
        self.step_count += 1
        outcome = self.outcomes.popleft() if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return now.monotonic + outcome


def patient(stage: Scripted) -> Patient:
    return Patient("intake", stage, chance=lambda: 0.0)


async def test_a_stage_that_is_well_is_stepped_when_it_says() -> None:
    driven = patient(Scripted(7.0))

    assert await driven.step(at(100)) == 107
    assert driven.trouble is None


async def test_a_step_that_cannot_record_is_taken_again_with_longer_and_longer_rests() -> None:
    stage = Scripted(FULL)
    driven = patient(stage)

    now, rests = 100.0, []
    for _ in range(8):
        due = await driven.step(at(now))
        rests.append(due - now)
        now = due

    assert rests == [1, 2, 4, 8, 16, RECORDING_SECONDS_MAX, RECORDING_SECONDS_MAX, RECORDING_SECONDS_MAX]
    assert stage.step_count == 8
    assert driven.trouble == str(FULL)


async def test_a_bell_does_not_shorten_the_rest() -> None:
    stage = Scripted(FULL)
    driven = patient(stage)
    due = await driven.step(at(100))

    assert [await driven.step(at(100.5)) for _ in range(50)] == [due] * 50
    assert stage.step_count == 1


async def test_trouble_is_told_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    driven = patient(Scripted(FULL, FULL, FULL, 1.0))
    caplog.set_level(logging.INFO)

    for moment in (100, 200, 300, 400):
        await driven.step(at(moment))

    assert [(record.message, vars(record)["stage"]) for record in caplog.records] == [
        ("stage waits", "intake"),
        ("stage goes on", "intake"),
    ]
    assert driven.trouble is None


@pytest.mark.parametrize("error", [StateBrokenError("gone"), RetiredError("taken over"), ArithmeticError("a mistake")])
async def test_anything_else_ends_the_service(error: Exception) -> None:
    driven = patient(Scripted(error))

    with pytest.raises(type(error)):
        await driven.step(at(100))


async def test_a_stage_that_waits_for_a_disk_heeds_a_stop() -> None:
    stop, bell = anyio.Event(), Bell()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_drive_until, stop, bell)
            await anyio.lowlevel.checkpoint()
            stop.set()
            bell.ring()


async def _drive_until(stop: anyio.Event, bell: Bell) -> None:
    await drive(patient(Scripted(FULL)), bell, Pulse(lambda: at(100)), clock=lambda: at(100), stop=stop)
