"""A start while nothing can be recorded: it is tried again, because a supervisor would give up."""

from pathlib import Path

import anyio
import pytest

from batchbox.config import Settings, parse_settings
from batchbox.errors import ExitCode, StateBrokenError, StateNotWritableError
from batchbox.report import Notifier
from batchbox.service import running

FULL = StateNotWritableError("batchbox.db: nothing can be recorded")


class Starts:
    """The starts of a service, the first of which fail."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.count = 0

    async def run(self, settings: Settings, **options: object) -> ExitCode:
        """Fail, or be done."""
        del settings, options
        self.count += 1
        if self.errors:
            raise self.errors.pop(0)
        return ExitCode.DONE


async def start(starts: Starts, folder: Path, monkeypatch: pytest.MonkeyPatch, *, is_stopped: bool = False) -> ExitCode:
    """Start the service, whose waits are short."""
    monkeypatch.setattr(running, "_run", starts.run)
    monkeypatch.setattr(running, "START_SECONDS", 0.01)
    stop = anyio.Event()
    if is_stopped:
        stop.set()
    settings = parse_settings(f'[paths]\nroot = "{folder}"\nstate = "{folder}-state"\n', source="config.toml")
    notifier = Notifier({}, process_id=1)
    return await running.run(settings, api_key="key", notifier=notifier, stop=stop, drain=False)


async def test_a_start_without_room_is_tried_until_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts = Starts(FULL, FULL, FULL)

    assert await start(starts, tmp_path, monkeypatch) is ExitCode.DONE
    assert starts.count == 4


async def test_a_stop_ends_the_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts = Starts(FULL, FULL)

    with pytest.raises(StateNotWritableError):
        await start(starts, tmp_path, monkeypatch, is_stopped=True)
    assert starts.count == 1


async def test_a_disk_that_fails_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StateBrokenError):
        await start(Starts(StateBrokenError("gone")), tmp_path, monkeypatch)
