import os
from pathlib import Path

import pytest

from batchbox.folders.mounts import file_system_of, is_local

LINE = "36 35 98:0 / {point} rw,noatime master:1 - {kind} {kind} rw"


def mountinfo(*mounts: tuple[str, str]) -> str:
    """Return a /proc/self/mountinfo with these mount points and types."""
    return "\n".join(LINE.format(point=point, kind=kind) for point, kind in mounts) + "\n"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/share/inbox", "cifs"),
        ("/srv/share", "cifs"),
        ("/srv/share2", "ext4"),
        ("/srv", "ext4"),
        ("/srv/share/deep/x", "nfs4"),
        ("/", "ext4"),
    ],
)
def test_a_path_lies_on_the_mount_that_is_nearest_above_it(path: str, kind: str) -> None:
    text = mountinfo(("/", "ext4"), ("/srv/share", "cifs"), ("/srv/share/deep", "nfs4"))

    assert file_system_of(Path(path), text) == kind


def test_of_two_mounts_on_one_point_the_later_hides_the_earlier() -> None:
    text = mountinfo(("/", "ext4"), ("/srv", "autofs"), ("/srv", "nfs4"))

    assert file_system_of(Path("/srv/x"), text) == "nfs4"


def test_a_mount_point_with_blanks_and_line_ends_in_its_name_is_recognised() -> None:
    text = mountinfo(("/", "ext4"), ("/srv/my\\040share\\012x\\134y", "cifs"))

    assert file_system_of(Path("/srv/my share\nx\\y/inbox"), text) == "cifs"


def test_optional_fields_do_not_shift_the_type() -> None:
    text = "1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 8:2 / /srv rw shared:1 master:2 unbindable - fuse.sshfs x rw\n"

    assert file_system_of(Path("/srv/a"), text) == "fuse.sshfs"


def test_a_link_is_judged_by_where_it_leads(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    os.symlink(real, tmp_path / "link")
    text = mountinfo(("/", "ext4"), (str(real.resolve()), "nfs"))

    assert file_system_of(tmp_path / "link" / "x", text) == "nfs"


def test_a_path_on_no_known_mount_has_no_type() -> None:
    assert file_system_of(Path("/srv"), "") is None


@pytest.mark.skipif(not os.path.exists("/proc/self/mountinfo"), reason="this system has no mountinfo")
def test_proc_is_no_place_where_events_can_be_trusted() -> None:
    """An unknown type counts as a share."""
    assert not is_local(Path("/proc/self"))
