"""What a `check` that was killed left behind goes a day later, and nothing else does."""

import os

import pytest

from batchbox.folders.layout import Presence
from batchbox.folders.outbox import Outbox
from batchbox.folders.trials import LEFT_SECONDS, trial_name

from .site import INSTANCE, Site


@pytest.mark.parametrize("place", ["inbox", "inbox/reports", "processing", "outbox", "rejected", "done", ".batchbox"])
@pytest.mark.parametrize("middle", ["", "-case", "-\u00e9"])
async def test_what_a_check_left_a_day_ago_goes_at_the_start(site: Site, place: str, middle: str) -> None:
    """The clock is the share's own, by our heartbeat."""
    folder = site.path / place
    folder.mkdir(exist_ok=True)
    now = await beat(site)
    old, fresh = (folder / trial_name(middle) for _ in range(2))
    for path, age in ((old, LEFT_SECONDS + 10), (fresh, LEFT_SECONDS - 10)):
        path.touch()
        os.utime(path, (now - age, now - age))

    await Outbox(site.root, INSTANCE).remove_leftovers(stems_in_use=[])

    assert not old.exists()
    assert fresh.exists()


@pytest.mark.parametrize(
    "name",
    [
        ".bb-check-.part",
        ".bb-check-0123456789abcdeg.part",
        ".bb-check-0123456789abcdef.md",
        "bb-check-0123456789abcdef.part",
        ".bb-0123456789abcdef.part",
    ],
)
async def test_what_only_looks_like_it_stays(site: Site, name: str) -> None:
    path = site.path / "inbox" / name
    path.touch()
    long_ago = await beat(site) - 10 * LEFT_SECONDS
    os.utime(path, (long_ago, long_ago))

    await Outbox(site.root, INSTANCE).remove_leftovers(stems_in_use=[])

    assert path.exists()


async def test_a_folder_of_that_name_and_one_that_is_missing_stop_nothing(site: Site) -> None:
    (site.path / "rejected").rmdir()
    trial = site.path / "inbox" / trial_name()
    trial.mkdir()
    await beat(site)

    await Outbox(site.root, INSTANCE).remove_leftovers(stems_in_use=[])

    assert trial.exists()


async def beat(site: Site) -> float:
    """Return the time that our heartbeat says now."""
    await Presence(site.root, INSTANCE).beat()
    heartbeat = site.path / "processing" / INSTANCE / ".heartbeat"
    return heartbeat.stat().st_mtime
