"""How much room there is, and when that is too little to take files or to send them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from batchbox.folders import space
from batchbox.folders.space import TAKING_BYTES, Disk, Room, disk_of, lack

from .site import Site

MB = 1000**2
FOLDER = Path("/srv/box")


def disk(free_bytes: int | None, *, device: int = 1, has_files_left: bool = True) -> Disk:
    return Disk(device=device, free_bytes=free_bytes, has_files_left=has_files_left)


def test_a_real_disk_is_read_as_the_system_counts_it(tmp_path: Path) -> None:
    facts = os.statvfs(tmp_path)

    found = disk_of(tmp_path)

    assert found.free_bytes is not None
    assert abs(found.free_bytes - facts.f_bavail * facts.f_frsize) < 1000 * MB
    assert found.device == tmp_path.stat().st_dev
    assert found.has_files_left


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        (disk(500 * MB), None),
        (disk(12 * MB), "12 MB free on the disk of /srv/box, less than [inbox] min_free 500MB"),
        (disk(499 * MB), "499 MB free on the disk of /srv/box, less than [inbox] min_free 500MB"),
        (disk(None), None),
        (
            disk(900 * MB, has_files_left=False),
            "no further file can be made on the disk of /srv/box: it has no free inodes",
        ),
    ],
    ids=["enough", "little", "nearly enough", "not said", "no inodes"],
)
def test_what_a_disk_lacks_is_said_in_a_sentence(found: Disk, complaint: str | None) -> None:
    assert lack(FOLDER, found, bytes_min=500 * MB) == complaint


def test_taking_stops_before_it_would_fall_below_the_mark() -> None:
    """Else the database would grow up to the mark, and the sending that empties it again would stop there too."""
    found = disk(510 * MB)

    complaint = lack(FOLDER, found, bytes_min=500 * MB, taking=16 * MB)

    assert (
        complaint == "510 MB free on the disk of /srv/box: what comes next would leave less than [inbox] min_free 500MB"
    )
    assert lack(FOLDER, found, bytes_min=500 * MB) is None


def test_what_the_database_can_use_again_counts_but_half_of_the_room_must_be_real() -> None:
    assert lack(FOLDER, disk(300 * MB), bytes_min=500 * MB, reusable=250 * MB) is None
    assert lack(FOLDER, disk(100 * MB), bytes_min=500 * MB, reusable=10_000 * MB) is not None


DiskOf = Callable[[Path | int], Disk]


def roomy(site: Site, state: Path, disks: DiskOf, monkeypatch: pytest.MonkeyPatch, *, bytes_min: int) -> Room:
    """Return the room where the root's and the state's disks are as they are said to be."""

    async def reusable() -> int:
        return 0

    monkeypatch.setattr(space, "disk_of", disks)
    return Room(site.root, state, bytes_min=bytes_min, reusable=reusable)


@pytest.mark.parametrize("full", ["root", "state"])
async def test_either_disk_stops_taking_and_sending(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    def disks(folder: Path | int) -> Disk:
        is_state = isinstance(folder, Path)
        return disk(MB if is_state == (full == "state") else 900 * MB, device=int(is_state))

    room = roomy(site, tmp_path, disks, monkeypatch, bytes_min=500 * MB)

    said = [await room.shortage(0), await room.shortage_to_send()]

    folder = tmp_path if full == "state" else site.path
    assert said == [f"1 MB free on the disk of {folder}, less than [inbox] min_free 500MB"] * 2


async def test_sending_goes_on_where_taking_stops(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = roomy(site, tmp_path, lambda _: disk(500 * MB + TAKING_BYTES - 1), monkeypatch, bytes_min=500 * MB)

    assert await room.shortage(0) is not None
    assert await room.shortage_to_send() is None


async def test_a_file_that_would_not_fit_is_not_taken(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = roomy(site, tmp_path, lambda _: disk(1000 * MB), monkeypatch, bytes_min=500 * MB)

    assert await room.shortage(100 * MB) is None
    assert await room.shortage(450 * MB) is not None


async def test_a_mark_of_zero_is_none(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = roomy(site, tmp_path, lambda _: disk(0, has_files_left=False), monkeypatch, bytes_min=0)

    assert await room.shortage(10**12) is None
