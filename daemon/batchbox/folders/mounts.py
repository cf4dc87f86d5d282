"""Which file system a folder lies on, and whether that is a local one: shares tell nobody when a file arrives.

A folder is asked through its descriptor: the kernel says to which mount that belongs, whatever its path has come to
mean since.
"""

import os
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")
DESCRIPTORS = Path("/proc/self/fdinfo")

_LOCAL_TYPES = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "reiserfs", "tmpfs", "ramfs", "overlay"}
    | {"vfat", "exfat", "ntfs3", "hfsplus", "apfs"}
)
"""Everything else counts as a share, an unknown FUSE file system too: a scan too many costs little."""


def mount_of(descriptor: int) -> int | None:
    """Return the number of the mount that an open file or folder belongs to; None where the system does not tell.

    Raises OSError for what may be otherwise the next time, like too many open files.
    """
    try:
        lines = (DESCRIPTORS / str(descriptor)).read_text().splitlines()
    except FileNotFoundError:
        return None
    numbers = [line.partition(":")[2] for line in lines if line.startswith("mnt_id:")]
    return int(numbers[0]) if numbers else None


def file_system_in(mountinfo: str, mount: int) -> str | None:
    """Return the type of the mount of this number, by the text of /proc/self/mountinfo; None if it is not there."""
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        if fields[0] == str(mount):
            return fields[fields.index("-") + 1]
    return None


def file_system_of(descriptor: int) -> str | None:
    """Return the type of the file system that an open folder lies on; None if it cannot be told."""
    mount = mount_of(descriptor)
    return None if mount is None else file_system_in(MOUNTINFO.read_text(errors="surrogateescape"), mount)


def is_local(descriptor: int) -> bool:
    """Say whether events can be trusted in an open folder: a known local type, or a system without mounts (macOS)."""
    return not MOUNTINFO.exists() or file_system_of(descriptor) in _LOCAL_TYPES


def is_local_place(path: Path) -> bool:
    """Say the same of a path, whether there is anything yet or not."""
    if not MOUNTINFO.exists():
        return True
    for place in (path, *path.parents):
        try:
            descriptor = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)  # nobody has to be let read it
        except OSError:  # what is above it tells where it would be
            continue
        try:
            return is_local(descriptor)
        finally:
            os.close(descriptor)
    return False


def renaming_range(descriptor: int) -> tuple[int | None, int]:
    """Return what two open folders must have in common for files to be renamed between them: mount and device.

    Two mounts may show one device, and one mount has several where a file system has subvolumes.
    """
    return mount_of(descriptor), os.fstat(descriptor).st_dev
