import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from batchbox.folders.mounts import (
    MOUNTINFO,
    file_system_in,
    file_system_of,
    is_local,
    is_local_place,
    renaming_range,
)
from mounting import mounted, needs_mounts

TEXT = """\
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
36 21 0:45 / /srv/my\\040share rw,noatime master:1 - cifs //server/share rw
360 21 0:46 / /srv/b rw shared:1 master:2 unbindable - fuse.sshfs x rw
37 36 0:47 / /srv/my\\040share/deep rw - nfs4 server:/x rw
"""


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("mount", "kind"), [(21, "ext4"), (36, "cifs"), (37, "nfs4"), (360, "fuse.sshfs"), (3, None), (254, None)]
)
def test_a_mount_is_found_by_its_number(mount: int, kind: str | None) -> None:
    """Whatever its path looks like, and however many optional fields there are."""
    assert file_system_in(TEXT, mount) == kind


@pytest.mark.skipif(not MOUNTINFO.exists(), reason="this system has no mountinfo")
def test_proc_is_no_place_where_events_can_be_trusted() -> None:
    """An unknown type counts as a share."""
    with opened(Path("/proc/self")) as descriptor:
        assert file_system_of(descriptor) == "proc"
        assert not is_local(descriptor)
    assert not is_local_place(Path("/proc/self/nothing/of/this/kind"))


def test_a_place_that_is_not_there_yet_is_judged_by_what_is_above_it(tmp_path: Path) -> None:
    assert is_local_place(tmp_path / "not" / "there") is is_local_place(tmp_path) is True


@needs_mounts
def test_a_folder_that_is_opened_anew_after_something_was_mounted_there_is_another(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    with (
        opened(tmp_path) as above,
        opened(tmp_path / "one") as before,
        mounted("-t", "ramfs", "none", tmp_path / "one"),
        opened(tmp_path / "one") as after,
    ):
        kinds = [file_system_of(before), file_system_of(after)]
        ranges = [renaming_range(one) == renaming_range(above) for one in (before, after)]

    assert kinds[0] != kinds[1] == "ramfs"
    assert ranges == [True, False]


@needs_mounts
def test_files_cannot_be_renamed_between_two_mounts_of_one_disk(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with (
        mounted("--bind", tmp_path / "one", tmp_path / "two"),
        opened(tmp_path / "one") as one,
        opened(tmp_path / "two") as two,
    ):
        are_one = renaming_range(one) == renaming_range(two)
        is_one_device = os.fstat(one).st_dev == os.fstat(two).st_dev

    assert is_one_device
    assert not are_one
