"""An acceptance that is known is not forgotten because it cannot be written down at once."""

import pytest

from batchbox.errors import StateNotWritableError

from .bench import Bench, Points
from .taking import batch_states, marks, take_in


class FullDisk(Points):
    """Lets no commit through while `is_full`."""

    is_full = False

    def pass_by(self, label: str) -> None:
        """Pass a point, or fail at a commit."""
        super().pass_by(label)
        if self.is_full and label == "before commit":
            raise StateNotWritableError("full")


async def test_an_acceptance_is_recorded_when_there_is_room_again(bench: Bench) -> None:
    """The batch is polled from then on, and is never in doubt, although the disk was full when the answer came."""
    disk = FullDisk()
    bench.api.points = disk
    bench.drop("a.md", "one")
    await take_in(bench)
    bench.advance(1.1)
    bench.api.when_created = lambda: setattr(disk, "is_full", True)

    with pytest.raises(StateNotWritableError):
        await bench.step("dispatch")
    with pytest.raises(StateNotWritableError):
        await bench.step("dispatch")
    disk.is_full = False
    await bench.step("dispatch")
    states = batch_states(bench)
    bench.api.when_created = lambda: None
    await bench.settle()

    assert states == ["in_progress"]
    assert bench.api.create_count == 1
    assert marks(bench) == {"a.result.json"}


async def test_nothing_is_posted_when_the_intent_cannot_be_recorded(bench: Bench) -> None:
    """No intent, no POST."""
    disk = FullDisk()
    bench.api.points = disk
    bench.drop("a.md", "one")
    await take_in(bench)
    bench.advance(1.1)
    disk.is_full = True

    for _ in range(3):
        with pytest.raises(StateNotWritableError):
            await bench.step("dispatch")
    in_vain = bench.api.create_count
    disk.is_full = False
    await bench.settle()

    assert (in_vain, bench.api.create_count) == (0, 1)
