"""What the daemon asks of the root's folders before it begins."""

import os
import tempfile
from pathlib import Path

import pytest

from batchbox.errors import FolderPermissionError
from batchbox.folders.fitness import require_access, require_renames
from batchbox.folders.layout import MODES, make_root
from batchbox.folders.root import open_root
from mounting import as_nobody, mounted, needs_mounts

from .site import INSTANCE, Site

DEEPER = (f"processing/{INSTANCE}", ".batchbox/batches", f".batchbox/batches/{INSTANCE}")
"""What an earlier start may have made as another user."""


async def test_a_root_as_it_was_made_is_fit(site: Site) -> None:
    with open_root(site.path) as root:
        require_access(root, INSTANCE, site.path)
        require_renames(root, site.path)


@needs_mounts
@pytest.mark.parametrize("name", [*MODES, *DEEPER])
def test_every_folder_that_the_user_may_not_use_is_named(name: str) -> None:
    """Judged as the user whom the service runs as, without touching anything."""
    with tempfile.TemporaryDirectory(prefix="batchbox-") as folder:
        path = Path(folder)
        make_root(path)
        for below in DEEPER:
            (path / below).mkdir()
        for place in (path, *path.rglob("*")):
            place.chmod(0o777)
        is_well = as_nobody(lambda: _complaint(path))
        (path / name).chmod(0o755)
        (path / "outbox").chmod(0o755)
        before = sorted(path.rglob("*"))

        complaint = str(as_nobody(lambda: _complaint(path)))

        assert sorted(path.rglob("*")) == before
    assert is_well is None
    assert complaint.partition(": ")[0].split(", ") == [f"{path}/{one}" for one in _in_order(name, "outbox")]


def _complaint(path: Path) -> str | None:
    with open_root(path) as root:
        try:
            require_access(root, INSTANCE, path)
        except FolderPermissionError as error:
            return str(error)
    return None


def _in_order(*names: str) -> list[str]:
    every = [*MODES, *DEEPER]
    return sorted(set(names), key=every.index)


@needs_mounts
def test_a_disk_that_can_only_be_read_just_now_is_no_matter_of_permissions(tmp_path: Path) -> None:
    """It may become writable again, which a daemon that has ended would not notice."""
    make_root(tmp_path / "root")
    with mounted("--bind", "-o", "ro", tmp_path / "root", tmp_path / "root"), open_root(tmp_path / "root") as root:
        assert not os.access("inbox", os.W_OK, dir_fd=root)
        require_access(root, INSTANCE, tmp_path / "root")
