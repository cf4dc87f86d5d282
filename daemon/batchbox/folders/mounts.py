"""Which file system a folder lies on, and whether that is a local one: shares tell nobody when a file arrives."""

import os
import re
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")

_LOCAL_TYPES = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "reiserfs", "tmpfs", "ramfs", "overlay"}
    | {"vfat", "exfat", "ntfs3", "hfsplus", "apfs"}
)
"""Everything else counts as a share, an unknown FUSE file system too: a scan too many costs little."""

_ESCAPED = re.compile(r"\\([0-7]{3})")


def file_system_of(path: Path, mountinfo: str) -> str | None:
    """Return the type of the file system that holds the path, by the text of /proc/self/mountinfo; None if unknown."""
    best = ("", "")
    real = os.path.realpath(path)
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        mount_point = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), fields[4])
        is_above = real == mount_point or real.startswith(mount_point.rstrip("/") + "/")
        if is_above and len(mount_point) >= len(best[0]):  # the later of two mounts on one point hides the earlier
            best = (mount_point, fields[fields.index("-") + 1])
    return best[1] or None


def is_local(path: Path) -> bool:
    """Say whether events can be trusted on the path: a known local type, or a system without mountinfo (macOS)."""
    try:
        mountinfo = MOUNTINFO.read_text(errors="surrogateescape")
    except FileNotFoundError:
        return True
    return file_system_of(path, mountinfo) in _LOCAL_TYPES
